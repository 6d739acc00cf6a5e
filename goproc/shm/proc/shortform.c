/* shortform.c - a call in a few words, for the line about a death: `load('a.txt', 3, deep=True)`.
 *
 * The process that ran the call is gone, and with it the arguments. But a message of plain values (codec.c)
 * can be read without Python, and its first bytes stay in the task. So this reads the beginning of such a
 * message, and ends with `...` where the bytes end. The bytes may be damaged: nothing is read beyond their
 * end, and nothing is trusted.
 */
#include <stdio.h>

#include "proc.h"

#define LONGEST_TEXT 32u /* characters of a string */
#define DEPTH 4

struct words {
    const uint8_t *at, *end;
    struct gp_text *out; /* NULL: nothing is written */
    bool cut;            /* the bytes have ended in the middle */
};

static void put(struct words *w, const char *text) {
    struct gp_text *t = w->out;
    while (t && *text && t->at + 1 < t->end) *t->at++ = *text++;
    if (t && t->at < t->end) *t->at = 0;
}

static bool take(struct words *w, void *into, uint32_t n) {
    if ((uint64_t)(w->end - w->at) < n) {
        w->at = w->end;
        w->cut = true;
        return false;
    }
    memcpy(into, w->at, n);
    w->at += n;
    return true;
}

static bool continues(uint8_t byte) { return (byte & 0xc0) == 0x80; } /* a character, in UTF-8 */

/* A string of n bytes, as Python would show it. */
static void string(struct words *w, uint32_t n) {
    uint32_t left = (uint32_t)(w->end - w->at), have = n < left ? n : left,
             shown = have < LONGEST_TEXT ? have : LONGEST_TEXT;
    if (shown < have) {
        while (shown > 0 && continues(w->at[shown])) shown--; /* no half of a character */
    } else if (shown < n) {
        while (shown > 0 && continues(w->at[shown - 1])) shown--;
        if (shown > 0 && w->at[shown - 1] >= 0xc0) shown--;
    }
    put(w, "'");
    for (uint32_t i = 0; i < shown; i++) {
        uint8_t c = w->at[i];
        char text[8];
        snprintf(text, sizeof text,
                 c < 32 || c == 127       ? "\\x%02x"
                 : c == '\'' || c == '\\' ? "\\%c"
                                          : "%c",
                 c);
        put(w, text);
    }
    put(w, shown < have ? "...'" : "'");
    w->at += have;
    if (have < n) w->cut = true;
}

static const char *kind_name(uint8_t kind) {
    switch (kind) {
    case GP_KIND_CHAN: return "<chan>";
    case GP_KIND_WAITGROUP: return "<WaitGroup>";
    case GP_KIND_ATOMIC: return "<Atomic>";
    case GP_KIND_OUTCOME: return "<Goroutine>";
    case GP_KIND_COPY: return "<shared>";
    default: return "<handle>";
    }
}

static void value(struct words *w, int depth);

static void items(struct words *w, uint32_t n, int depth, bool pairs) {
    for (uint32_t i = 0; i < n && !w->cut; i++) {
        if (i) put(w, ", ");
        value(w, depth - 1);
        if (pairs && !w->cut) {
            put(w, ": ");
            value(w, depth - 1);
        }
    }
    if (w->cut) put(w, "...");
}

static void number(struct words *w, uint8_t type) {
    char text[32];
    int64_t x = 0;
    double d;
    uint8_t small;
    if (type == 'b') {
        if (!take(w, &small, 1)) return;
        x = (int8_t)small;
    } else if (!take(w, type == 'i' ? (void *)&x : (void *)&d, 8)) {
        return;
    }
    if (type == 'd') snprintf(text, sizeof text, "%.12g", d);
    else snprintf(text, sizeof text, "%lld", (long long)x);
    put(w, text);
}

static void value(struct words *w, int depth) {
    uint8_t type, n, handle[10];
    if (depth < 0 || w->cut || !take(w, &type, 1)) {
        w->cut = true;
        return;
    }
    switch (type) {
    case 'N': put(w, "None"); return;
    case 'T': put(w, "True"); return;
    case 'F': put(w, "False"); return;
    case 'b':
    case 'i':
    case 'd': number(w, type); return;
    case 'c':
        if (take(w, handle, sizeof handle)) put(w, kind_name(handle[0]));
        return;
    }
    if (!take(w, &n, 1)) return;
    switch (type) {
    case 'y': put(w, "b"); /* fall through */
    case 's': string(w, n); return;
    case '(':
        put(w, "(");
        items(w, n, depth, false);
        put(w, n == 1 ? ",)" : ")");
        return;
    case '[':
        put(w, "[");
        items(w, n, depth, false);
        put(w, "]");
        return;
    case '{':
        put(w, "{");
        items(w, n, depth, true);
        put(w, "}");
        return;
    }
    w->cut = true;
}

/* The head of a tuple, list or dict. False: it is none. */
static bool opens(struct words *w, uint8_t type, uint8_t *n) {
    uint8_t found;
    if (w->at == w->end || *w->at != type) return false;
    return take(w, &found, 1) && take(w, n, 1);
}

static void skip(struct words *w) {
    struct gp_text *out = w->out;
    w->out = NULL;
    value(w, DEPTH);
    w->out = out;
}

/* name=value, ... of a dict */
static void keywords(struct words *w, bool first) {
    uint8_t n, type, length;
    if (!opens(w, '{', &n)) return;
    for (uint32_t i = 0; i < n && !w->cut; i++) {
        if (!first) put(w, ", ");
        first = false;
        if (!take(w, &type, 1) || type != 's' || !take(w, &length, 1)) break;
        char name[40];
        uint32_t shown = length < sizeof name - 1 ? length : sizeof name - 1;
        if (!take(w, name, shown)) break;
        name[shown] = 0;
        put(w, name);
        put(w, "=");
        w->at += length - shown < (uint64_t)(w->end - w->at) ? length - shown : (uint64_t)(w->end - w->at);
        value(w, DEPTH);
    }
    if (w->cut) put(w, "...");
}

/* Move to the call in a message. Before it may stand a word, or a word and a tracker:
 * goproc/_pickling/call_shapes.py. */
static bool find_call(struct words *w) {
    uint8_t n;
    for (int i = 0; i < 3; i++) {
        if (!opens(w, '(', &n)) return false;
        if (w->at == w->end) return false;
        if (*w->at == 'i' || *w->at == 'b') return true; /* the reference of the function */
        bool tracked = n == 3;
        skip(w);
        if (tracked) skip(w);
    }
    return false;
}

uint32_t gp_call_begin(const struct gp_message *m, const uint8_t **at) {
    uint64_t capacity, skip = 0, n;
    if (m->codec != GP_CODEC_PLAIN || (m->block && !gp_block_check(m->block, &capacity))) return 0;
    *at = m->block ? (const uint8_t *)gp_payload(m->block) : m->data;
    if (!m->block) return m->len <= GP_INLINE ? m->len : 0;
    n = gp_len(m->block);
    if (gp_flags(m->block) & GP_BLOCK_HANDLES && n >= sizeof(struct gp_handles))
        skip = gp_handles_bytes(((const struct gp_handles *)*at)->count);
    if (skip > n) return 0;
    *at += skip;
    return n - skip < GP_INLINE ? (uint32_t)(n - skip) : GP_INLINE;
}

void gp_task_short_form(struct gp_text *t, const struct gp_task *task) {
    char name[GP_TASK_NAME];
    struct gp_message call = task->call;
    const uint8_t *at = call.data;
    uint32_t n = call.codec == GP_CODEC_NONE ? call.len : gp_call_begin(&call, &at);
    memcpy(name, task->name, sizeof name);
    name[sizeof name - 1] = 0;
    gp_short_form(t, name, at, n <= GP_INLINE ? n : 0);
}

void gp_short_form(struct gp_text *t, const char *name, const uint8_t *bytes, uint32_t n) {
    struct words w = {bytes, bytes + n, t, false};
    put(&w, name);
    put(&w, "(");
    uint8_t count = 0;
    if (n == 0 || !find_call(&w)) {
        put(&w, "...)");
        return;
    }
    skip(&w);
    bool any = w.at < w.end && *w.at == '(';
    if (any && opens(&w, '(', &count)) items(&w, count, DEPTH, false);
    else if (!any) skip(&w); /* None: no arguments */
    if (!w.cut) keywords(&w, count == 0);
    put(&w, ")");
}
