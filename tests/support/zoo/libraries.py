"""Exceptions of libraries."""

from __future__ import annotations

import asyncio
import concurrent.futures
import configparser
import contextlib
import decimal
import json
import re
import shutil
import sqlite3
import struct
import subprocess
import urllib.error
import uuid
import xml.etree.ElementTree
import zlib

from zoo.registry import by_class, case


@by_class
def json_error():
    json.loads('{"a": ]')


class ConfigError(json.JSONDecodeError):
    def __init__(self, path, error):
        super().__init__(error.msg, error.doc, error.pos)
        self.path = path


@case
def below_json_error():
    raise ConfigError("p", json.JSONDecodeError("m", "doc", 1))


@case
def called_process():
    subprocess.run(["false"], check=True, capture_output=True)


@case
def called_process_made():
    raise subprocess.CalledProcessError(3, ["a", "b"], output=b"out", stderr="err")


@case
def timeout_expired():
    raise subprocess.TimeoutExpired(["a"], 1.5, output=b"o")


@case
def http_error():
    raise urllib.error.HTTPError("http://x", 404, "Not Found", {"a": "b"}, None)


@case
def url_error():
    raise urllib.error.URLError(OSError(111, "refused"), "f")


@case
def content_too_short():
    raise urllib.error.ContentTooShortError("text", b"some")


@case
def regular_expression():
    re.compile("(")


@case
def struct_error():
    struct.unpack("i", b"")


@case
def zlib_error():
    zlib.decompress(b"x")


@case
def decimal_error():
    decimal.Decimal("x")


@case
def xml_error():
    xml.etree.ElementTree.fromstring("<a>")


@case
def sqlite_error():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("select * from missing")


@case
def uuid_error():
    uuid.UUID("x")


@case
def copy_errors():
    raise shutil.Error([("a", "b", "why")])


@by_class
def configparser_error():
    raise configparser.MissingSectionHeaderError("f", 1, "line")


@case
def configparser_option():
    raise configparser.NoOptionError("o", "s")


@case
def incomplete_read():
    raise asyncio.IncompleteReadError(b"a", 5)


@case
def broken_executor():
    raise concurrent.futures.BrokenExecutor("b")
