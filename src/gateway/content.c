#include "format/deflate.h"
#include "gateway/content.h"

int content_unpack(const struct call *call, const char *body, size_t length, char **ret_owned, const char **ret_data,
                   size_t *ret_length, struct error *error)
{
    const char *encoding = loop_request_header(call->request, "Content-Encoding");
    int form = encoding ? deflate_form_parse(encoding) : DEFLATE_NONE;
    char *plain;

    if (form < 0)
        return error_set(error, ERROR_INVALID, "Content-Encoding %.40s is not spoken here", encoding);
    *ret_data = body;
    *ret_length = length;
    if (form == DEFLATE_NONE)
        return 0;
    if (deflate_unpack(body, length, (size_t)call->endpoint->body_limit, &plain, ret_length, error) < 0)
        return -1;
    *ret_owned = plain;
    *ret_data = plain;
    return 0;
}
