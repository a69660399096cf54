/* What the files of runs and jobs share. */
#pragma once

#include "core/run.h"
#include "http/router.h"

/* Submits `body` (checked against run_request_schema) and answers 201 with the run. */
int run_submit(struct http_request *request, struct http_response *response, const json_t *body, struct error *error);
/* Before a transaction: the gate's rule compiles; the code is a blob that is there. */
int run_check_gate(const json_t *body, struct error *error);
int run_check_code(struct http_request *request, const json_t *body, struct error *error);

/* Loads the run that the path names, if the principal may see it. Begins the transaction. */
int run_of_request(struct http_request *request, bool write, struct db_tx *tx, struct run **ret_run,
                   struct error *error);
/* The node of the path, with attempt from the query (default: the newest). */
int run_node_of_request(struct http_request *request, const struct run *run, int *ret_attempt, int *ret_node,
                        struct error *error);

/* run-follow.c */
int run_follow(struct http_request *request, struct http_response *response, struct error *error);
int run_follow_log(struct http_request *request, struct http_response *response, struct error *error);
int run_follow_metrics(struct http_request *request, struct http_response *response, struct error *error);
/* run-log.c */
int run_get_log(struct http_request *request, struct http_response *response, struct error *error);
