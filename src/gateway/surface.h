/*
 * The serving port's calls as rows: what listener.c finds a request by, and what describe.c makes the OpenAPI
 * document of.
 */
#pragma once

#include "gateway/codec.h"
#include "util/schema.h"

struct gateway;
struct target;

typedef void (*answer_fn)(struct gateway *gateway, struct loop_request *request, const struct target *target);

/* Where the endpoint's name stands. */
enum naming {
    NAMING_NONE,
    NAMING_PATH,     /* between prefix and suffix; it may hold '/' */
    NAMING_VERSIONS, /* the same, with an optional "/versions/{v}" behind it */
    NAMING_SOLE,     /* in the header Slipway-Endpoint or the query; not needed where there is one endpoint only */
};

/* A row has a codec (then the request becomes a call) or an answer. */
struct surface {
    const char *method;
    const char *prefix; /* the whole path where the name is not in it */
    enum naming naming;
    const char *suffix;
    const struct codec *codec;
    answer_fn answer;
    /* For the document. */
    const char *summary;
    const char *takes;              /* content types of the body, with blanks between; NULL: no body */
    const struct schema *request;   /* of the first of them, where it is JSON */
    const char *gives;              /* content types of the answer; NULL: application/json */
    const struct schema *response;  /* of the first of them, where it is JSON; NULL: any */
    bool is_list;                   /* the answer is an array of `response` */
};

extern const struct surface surfaces[];
extern const size_t surfaces_count;

/* Bodies (bodies.c). */
extern const struct schema body_error, body_oip_error, body_mlflow_error;
extern const struct schema body_server, body_live, body_ready, body_model_ready, body_metadata, body_statistics,
    body_config, body_index, body_infer, body_inferred;
extern const struct schema body_tfs, body_tfs_answer, body_tfs_status;
extern const struct schema body_mlflow, body_mlflow_answer;
extern const struct schema body_health;
