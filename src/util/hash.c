#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>
#include "util/clock.h"
#include "util/hash.h"
#include "util/xalloc.h"

char *digest_format(const struct digest *digest, char buffer[DIGEST_TEXT_SIZE])
{
    memcpy(buffer, "sha256:", 7);
    hex_encode(digest->bytes, DIGEST_SIZE, buffer + 7);
    return buffer;
}

int digest_parse(const char *text, struct digest *ret_digest, struct error *error)
{
    struct digest digest;

    if (strncmp(text, "sha256:", 7) != 0 || !hex_decode(text + 7, digest.bytes, DIGEST_SIZE))
        return error_set(error, ERROR_INVALID, "'%.80s' is not a digest; expected sha256: and 64 hexadecimal digits",
                         text);
    *ret_digest = digest;
    return 0;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

struct hasher {
    EVP_MD_CTX *context;
};

struct hasher *hasher_new(void)
{
    struct hasher *hasher = xnew0(struct hasher);

    hasher->context = EVP_MD_CTX_new();
    if (!hasher->context || EVP_DigestInit_ex(hasher->context, EVP_sha256(), NULL) != 1)
        abort();
    return hasher;
}

void hasher_add(struct hasher *hasher, const void *data, size_t length)
{
    if (EVP_DigestUpdate(hasher->context, data, length) != 1)
        abort();
}

static void finish(struct hasher *hasher, struct digest *ret_digest)
{
    unsigned int length = 0;

    if (EVP_DigestFinal_ex(hasher->context, ret_digest->bytes, &length) != 1 || length != DIGEST_SIZE)
        abort();
}

void hasher_finish(struct hasher *hasher, struct digest *ret_digest)
{
    finish(hasher, ret_digest);
    hasher_free(hasher);
}

void hasher_digest(struct hasher *hasher, const void *data, size_t length, struct digest *ret_digest)
{
    hasher_add(hasher, data, length);
    finish(hasher, ret_digest);
    if (EVP_DigestInit_ex(hasher->context, NULL, NULL) != 1) /* the same algorithm again */
        abort();
}

struct hasher *hasher_free(struct hasher *hasher)
{
    if (hasher) {
        EVP_MD_CTX_free(hasher->context);
        free(hasher);
    }
    return NULL;
}

void digest_of(const void *data, size_t length, struct digest *ret_digest)
{
    struct hasher *hasher = hasher_new();

    hasher_add(hasher, data, length);
    hasher_finish(hasher, ret_digest);
}

void random_bytes(void *buffer, size_t length)
{
    uint8_t *p = buffer;

    while (length) {
        ssize_t n = getrandom(p, length, 0);

        if (n < 0)
            abort();
        p += n;
        length -= (size_t)n;
    }
}

void hex_encode(const void *data, size_t length, char *buffer)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;

    for (size_t i = 0; i < length; i++) {
        buffer[2 * i] = digits[p[i] >> 4];
        buffer[2 * i + 1] = digits[p[i] & 15];
    }
    buffer[2 * length] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool hex_decode(const char *text, void *buffer, size_t length)
{
    uint8_t *p = buffer;

    for (size_t i = 0; i < length; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);

        if (low < 0)
            return false;
        p[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * length] == '\0';
}

char *base64url_encode(const void *data, size_t length)
{
    char *text = xmalloc((length + 2) / 3 * 4 + 1);
    int n = EVP_EncodeBlock((unsigned char *)text, data, (int)length);

    for (int i = 0; i < n; i++) {
        if (text[i] == '+')
            text[i] = '-';
        else if (text[i] == '/')
            text[i] = '_';
    }
    while (n > 0 && text[n - 1] == '=')
        n--;
    text[n] = '\0';
    return text;
}

char *base64_decode(const char *text, size_t *ret_length)
{
    size_t length = strlen(text);
    size_t padding = length && text[length - 1] == '=' ? 1 + (length > 1 && text[length - 2] == '=') : 0;
    cleanup_free char *data = NULL;

    /* OpenSSL trims blanks at the ends; in the middle of a header there are none to be trimmed. */
    if (length % 4 ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") < length - padding)
        return NULL;
    data = xmalloc(length / 4 * 3 + 1);
    if (length && EVP_DecodeBlock((unsigned char *)data, (const unsigned char *)text, (int)length) < 0)
        return NULL;
    *ret_length = length / 4 * 3 - padding;
    data[*ret_length] = '\0';
    return steal_ptr(data);
}

/*
 *   0                   1                   2                   3
 *  |          unix_ts_ms (48 bits)         |ver=7|   counter (12)  |
 *  |var|              random (62 bits)                             |
 *
 * The counter grows within a millisecond; when it runs out, the clock of the identifiers is moved on
 * by one, so that order holds even when ids are made faster than time passes.
 */
void id_new(char buffer[ID_SIZE])
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last_ms;
    static unsigned counter;
    int64_t ms = clock_wall_ms();
    uint8_t id[16];
    unsigned count;

    random_bytes(id, sizeof(id));

    pthread_mutex_lock(&lock);
    if (ms > last_ms) {
        last_ms = ms;
        counter = ((id[6] & 7u) << 8) | id[7];
    } else if (++counter > 0xfff) {
        last_ms++;
        counter = 0;
    }
    ms = last_ms;
    count = counter;
    pthread_mutex_unlock(&lock);

    for (int i = 0; i < 6; i++)
        id[i] = (uint8_t)(ms >> (40 - 8 * i));
    id[6] = (uint8_t)(0x70 | (count >> 8));
    id[7] = (uint8_t)count;
    id[8] = (uint8_t)(0x80 | (id[8] & 0x3f));
    hex_encode(id, sizeof(id), buffer);
}

bool id_is_valid(const char *text)
{
    uint8_t id[16];

    return text && hex_decode(text, id, sizeof(id));
}

bool memory_equal_secret(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

void sha1_of(const void *data, size_t length, uint8_t ret_digest[SHA1_SIZE])
{
    if (!EVP_Digest(data, length, ret_digest, NULL, EVP_sha1(), NULL))
        abort();
}

char *base64_encode(const void *data, size_t length, char *buffer)
{
    EVP_EncodeBlock((unsigned char *)buffer, data, (int)length);
    return buffer;
}
