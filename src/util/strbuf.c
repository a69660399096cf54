#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "util/strbuf.h"
#include "util/xalloc.h"

char strbuf_empty[1];

void strbuf_init(struct strbuf *sb, size_t max)
{
    *sb = (struct strbuf)STRBUF_INIT(max);
}

void strbuf_release(struct strbuf *sb)
{
    if (sb->capacity)
        free(sb->data);
    strbuf_init(sb, sb->max);
}

void strbuf_reset(struct strbuf *sb)
{
    sb->length = 0;
    sb->overflowed = false;
    if (sb->capacity)
        sb->data[0] = '\0';
}

char *strbuf_detach(struct strbuf *sb, size_t *ret_length)
{
    char *data = sb->capacity ? sb->data : xstrdup("");

    if (ret_length)
        *ret_length = sb->length;
    strbuf_init(sb, sb->max);
    return data;
}

char *strbuf_reserve(struct strbuf *sb, size_t extra)
{
    size_t need, capacity;

    if (extra > sb->max - sb->length) {
        sb->overflowed = true;
        return NULL;
    }

    need = sb->length + extra + 1;
    if (need > sb->capacity) {
        capacity = sb->capacity ? sb->capacity : 64;
        while (capacity < need)
            capacity += capacity / 2;
        sb->data = xrealloc(sb->capacity ? sb->data : NULL, capacity);
        sb->capacity = capacity;
        sb->data[sb->length] = '\0';
    }
    return sb->data + sb->length;
}

void strbuf_commit(struct strbuf *sb, size_t written)
{
    assert(sb->length + written < sb->capacity || written == 0);

    sb->length += written;
    if (sb->capacity)
        sb->data[sb->length] = '\0';
}

void strbuf_add(struct strbuf *sb, const void *data, size_t length)
{
    char *to;

    if (!length)
        return;
    to = strbuf_reserve(sb, length);
    if (!to)
        return;
    memcpy(to, data, length);
    strbuf_commit(sb, length);
}

void strbuf_adds(struct strbuf *sb, const char *s)
{
    strbuf_add(sb, s, strlen(s));
}

void strbuf_addc(struct strbuf *sb, char c)
{
    strbuf_add(sb, &c, 1);
}

void strbuf_addv(struct strbuf *sb, const char *format, va_list args)
{
    va_list again;
    int length;
    char *to;

    va_copy(again, args);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    assert(length >= 0);

    to = strbuf_reserve(sb, (size_t)length);
    if (!to)
        return;
    vsnprintf(to, (size_t)length + 1, format, args);
    strbuf_commit(sb, (size_t)length);
}

void strbuf_addf(struct strbuf *sb, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    strbuf_addv(sb, format, args);
    va_end(args);
}

void strbuf_consume(struct strbuf *sb, size_t count)
{
    assert(count <= sb->length);

    if (!count)
        return;
    memmove(sb->data, sb->data + count, sb->length - count + 1);
    sb->length -= count;
}

void strbuf_truncate(struct strbuf *sb, size_t length)
{
    assert(length <= sb->length);

    sb->length = length;
    if (sb->capacity)
        sb->data[length] = '\0';
}
