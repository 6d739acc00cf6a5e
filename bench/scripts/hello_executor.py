"""The same with a ProcessPoolExecutor of 8, started by spawning, as on other systems."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    with ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures = [executor.submit(os.getpid) for _ in range(8)]
        print("hello from", *[future.result() for future in futures])
