/*
 * Every size that somebody outside controls, on one page. Bytes unless the name says otherwise.
 *
 * A limit is a promise to the machine, not a feature: what exceeds it gets ERROR_TOO_LARGE with the
 * limit's value in the message. docs/reference/limits.md is generated from this file.
 */
#pragma once

#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

/* -- text and names -- */
#define LIMIT_LOG_LINE     (16 * KIB) /* one line of the daemon's own log */
#define LIMIT_NAME         63         /* characters in the name of a project, dataset, job, model part, endpoint */
#define LIMIT_DESCRIPTION  (4 * KIB)  /* free text on an object */
#define LIMIT_PATH         4096       /* a file name inside a dataset, package or data directory */
#define LIMIT_JSON_DEPTH   64         /* nesting of JSON that comes from outside */
#define LIMIT_JSON_BODY    (1 * MIB)  /* a request body in JSON, unless the route says otherwise */
#define LIMIT_CONFIG_FILE  (1 * MIB)  /* configuration, package manifest, certificate */
#define LIMIT_PAGE         1000       /* elements on one page of a list */
#define LIMIT_PAGE_DEFAULT 100        /* elements on one page when the client names no number */

/* -- HTTP -- */
#define LIMIT_HTTP_HEADER         (32 * KIB) /* request line and headers together */
#define LIMIT_HTTP_CONNECTIONS    1000       /* open connections on the control port */
#define LIMIT_HTTP_HEADER_SECONDS 20       /* from the first byte of a request to the end of its header */
#define LIMIT_HTTP_IDLE_SECONDS   60         /* between two bytes, and between two requests */
#define LIMIT_HTTP_BODY_SECONDS   60         /* for a body in JSON to arrive */
#define LIMIT_HTTP_QUERY          100        /* query parameters of a request */
#define LIMIT_HTTP_INLINE_BODY    (1 * MIB)  /* a larger file body is handled on a worker thread */
#define LIMIT_HTTP_DISCARD        (1 * MIB)  /* of a refused body that is still read, so that the answer arrives */
#define LIMIT_HTTP_REPLY          (64 * MIB) /* a reply that the client keeps in memory */
#define LIMIT_UPLOAD              (1 * TIB)  /* a streamed upload into the vault */
#define LIMIT_WEBSOCKET_MESSAGE   (1 * MIB)  /* one message in either direction */
#define LIMIT_WEBSOCKET_BACKLOG   (4 * MIB)  /* unsent bytes to a slow reader before it is disconnected */

/* -- formats -- */
#define LIMIT_SAFETENSORS_HEADER (100 * MIB)      /* as the reference implementation */
#define LIMIT_TENSOR_RANK        32               /* dimensions of a tensor */
#define LIMIT_TENSORS            100000           /* tensors in one file */
#define LIMIT_CSV_FIELD          (16 * MIB)       /* one field */
#define LIMIT_CSV_COLUMNS        100000           /* columns in one file */
#define LIMIT_CSV_CATEGORIES     65536            /* distinct strings of a categorical column */
#define LIMIT_LINE               (64 * MIB)       /* a line of libsvm or JSON lines */
#define LIMIT_LIBSVM_INDEX       (1 << 30)        /* largest feature index */
#define LIMIT_ARCHIVE_FILES      100000           /* entries of an archive that we unpack */
#define LIMIT_ARCHIVE_SIZE       (4 * GIB)        /* bytes an archive may unpack to */
#define LIMIT_ARCHIVE_RATIO      200              /* unpacked : packed, beyond the first MiB */
#define LIMIT_DATASET_FILES      1000             /* source files of one import */

/* -- runs -- */
#define LIMIT_CODE         (512 * MIB) /* one code version, packed */
#define LIMIT_PARAMETERS   1000        /* parameters of a run */
#define LIMIT_PARAMETER    (64 * KIB)  /* one parameter's value as JSON */
#define LIMIT_RUN_DATASETS 64          /* datasets of a run */
#define LIMIT_RUN_NODES    1024        /* nodes of a run */
#define LIMIT_METRIC_LINE  (64 * KIB)  /* one line of metrics.jsonl */
#define LIMIT_METRIC_NAMES 10000       /* distinct metric names of a run */
#define LIMIT_RUN_LOG      (256 * MIB) /* log of one node; what comes after is counted and dropped */
#define LIMIT_LOG_CHUNK    (16 * KIB)  /* a longer line is split into partial ones (CRI format) */
#define LIMIT_RUN_OUTPUT   (64 * GIB)  /* artifacts of one node */
#define LIMIT_WEIGHTS      (1 * TIB)   /* one generation of weights */
#define LIMIT_QUEUE        1000000     /* runs waiting */
#define LIMIT_REQUIREMENTS (256 * KIB) /* a requirements file */
#define LIMIT_BUILD_LOG    (64 * MIB)  /* log of an environment build as it is shown */

/* -- models and rules -- */
#define LIMIT_RULE           (64 * KIB)  /* text of a rule */
#define LIMIT_RULE_DOCUMENT  (16 * MIB)  /* what a rule sees, as JSON text */
#define LIMIT_RULE_OUTPUT    (64 * KIB)  /* what a rule gives, as JSON text */
#define LIMIT_RULE_MEMORY    (512 * MIB) /* address space of the process that runs a rule */
#define LIMIT_RULE_TIME_MS   2000        /* milliseconds a rule may run */
#define LIMIT_RELEASE_RECORD (1 * MIB)   /* one release record as JSON text */
#define LIMIT_HISTORY_POINTS 1000        /* points of one metric that a gate sees */

/* -- serving -- */
#define LIMIT_PREDICT_BODY        (64 * MIB)  /* a request to a model, the limit of the endpoint may be lower */
#define LIMIT_PREDICT_REPLY       (64 * MIB)  /* a model's reply */
#define LIMIT_ENDPOINTS           1000        /* endpoints of one gateway */
#define LIMIT_REPLICAS            64          /* replicas of one version */
#define LIMIT_BATCH               64          /* requests that one call of predict_batch() takes */
#define LIMIT_BATCH_DEFAULT       32          /* the same, where neither slipway.yaml nor the endpoint says it */
#define LIMIT_BATCH_DELAY         1000000 /* microseconds that a request may wait for more to come into its batch */
#define LIMIT_ANSWER_CACHE        (256 * MIB) /* answers of a deterministic model that an endpoint remembers (--cache) */
#define LIMIT_ANSWER_CACHE_ALL    (1 * GIB) /* the same, of all endpoints together */
#define LIMIT_ANSWER_CACHE_ITEM   (1 * MIB) /* a request or an answer; longer ones are not remembered */
#define LIMIT_PRIORITY            10 /* Slipway-Priority: from -10 to 10 */
#define LIMIT_TOKEN               4096 /* a bearer token as sent */
#define LIMIT_CONTROL_LINE        (16 * MIB) /* a message between daemon and gateway */
#define LIMIT_SCALE_QUEUE_TIME_MS 50 /* milliseconds that requests may wait before a replica is added, by default */
#define LIMIT_SCALE_DOWN_AFTER_MS 60000 /* milliseconds that one replica fewer would have done, by default */
#define LIMIT_SCALE_IDLE_MS       600000 /* milliseconds without a request before the last replica ends, by default */
#define LIMIT_LOAD_WINDOW_MIN_MS  100 /* milliseconds over which the gateway measures a route's load: twice the time */
#define LIMIT_LOAD_WINDOW_MAX_MS  1000 /* that requests may wait, within these bounds */
#define LIMIT_TOKEN_CACHE         100000 /* tokens the gateway remembers */

/* -- versions beside the live one -- */
#define LIMIT_STICKY_HEADER     100 /* characters in the name of a header that keeps requests on a version */
#define LIMIT_SHADOW_QUEUE      64 /* copies of requests that wait for a shadow; more are dropped and counted */
#define LIMIT_SHADOW_REQUEST    (1 * MIB) /* a request that is copied for a shadow */
#define LIMIT_SHADOW_ANSWER     (256 * KIB) /* an answer that is compared with a shadow's */
#define LIMIT_SHADOW_JSON       (64 * KIB) /* an answer that is compared as JSON; larger ones byte by byte */
#define LIMIT_SHADOW_MEMORY     (64 * MIB) /* copies of all shadows together */
#define LIMIT_SHADOW_SAMPLES    20 /* answers that differed that are kept, of each shadow */
#define LIMIT_TRIAL_INTERVAL_MS 1000 /* milliseconds between two looks at the rules of canaries and shadows */
#define LIMIT_SHADOW_EXCERPT    (4 * KIB) /* of a request and of each answer that are kept */

/* -- serving: protocols and tokens -- */
#define LIMIT_QUOTA_WINDOW_MIN_MS 1000 /* milliseconds: the shortest window of a quota */
#define LIMIT_QUOTA_WINDOW_MAX_MS 31622400000 /* milliseconds: the longest, 366 days */
#define LIMIT_PREDICT_INSTANCES   10000 /* instances of one request to a model that takes text */

/* -- serving: the log of requests -- */
#define LIMIT_REQUEST_LOG_BODY       (64 * KIB) /* of a request and of an answer that are kept at most */
#define LIMIT_REQUEST_LOG_DEFAULT    (16 * KIB) /* the same, unless the endpoint has another number */
#define LIMIT_REQUEST_LOG_BUFFER     (64 * KIB) /* lines that wait in memory before they are written */
#define LIMIT_REQUEST_LOG_DELAY_MS   1000 /* milliseconds that they wait at most */
#define LIMIT_REQUEST_LOG_SEGMENT    (1 * MIB) /* of an endpoint's lines in one segment, the last line may pass it */
#define LIMIT_REQUEST_LOG_SEGMENT_MS 60000 /* milliseconds before a segment is closed, full or not */
#define LIMIT_REQUEST_LOG_CLOSED     (64 * MIB) /* segments that the daemon has not taken; beyond: lines are dropped */
#define LIMIT_REQUEST_LOG_FILES      4096 /* the same, in number */
#define LIMIT_REQUEST_LOG_KEPT       1024 /* segments that an endpoint keeps; older ones go */
#define LIMIT_REQUEST_LOG_KEPT_BYTES (64 * MIB) /* the same, in bytes */
#define LIMIT_REQUEST_LOG_LINES      1000 /* logged requests in one answer of the API */
#define LIMIT_REQUEST_LOG_REPLY      (16 * MIB) /* bytes of them */

/* -- serving: times and defaults -- */
#define LIMIT_PREDICT_TIMEOUT_MS     30000 /* milliseconds: deadline of a request, unless the endpoint has another */
#define LIMIT_PREDICT_QUEUE          256 /* requests that may wait, unless the endpoint has another number */
#define LIMIT_PREDICT_REPLICAS       1 /* processes of a version, unless the endpoint has another number */
#define LIMIT_PREDICT_PARTS          16 /* instances of a request for text that run or wait at a time */
#define LIMIT_GATEWAY_CONNECTIONS    10000 /* open connections on the serving port */
#define LIMIT_GATEWAY_LINGER_SECONDS 2 /* for a client to read a refusal before its body ended */
#define LIMIT_GATEWAY_GRACE_MS       30000 /* milliseconds for requests in flight when the gateway ends */
#define LIMIT_ORPHAN_MS              10000 /* milliseconds until a gateway or monitor whose directory is gone sees it */
#define LIMIT_GATEWAY_STEADY_MS      1000 /* milliseconds: who lived so long is started again at once */
#define LIMIT_GATEWAY_RETRY_MS       1000 /* milliseconds: longest pause before that; they double from 50 */
#define LIMIT_TOKEN_TTL_MS           60000 /* milliseconds that a good token is remembered at most */
#define LIMIT_TOKEN_NEGATIVE_MS      5000 /* milliseconds that a bad token is refused without asking */
#define LIMIT_INTROSPECTION_MS       5000 /* milliseconds for the introspection server to answer; then 503 */
#define LIMIT_INTROSPECTIONS         1000 /* questions to it at a time; beyond: 503 */
#define LIMIT_WORKER_HELLO_MS        10000 /* milliseconds for who connects as a worker to say who it is */
#define LIMIT_WORKER_AHEAD_MS        1 /* milliseconds of work that a quick replica is given ahead */
#define LIMIT_WORKER_CHECK_MS        1000 /* milliseconds between two looks whether a replica hangs */
#define LIMIT_REPLICA_DRAIN_MS       5000 /* milliseconds of patience beyond the endpoint's deadline */
#define LIMIT_REPLICA_GRACE_MS       5000 /* milliseconds between SIGTERM and SIGKILL for a replica */
#define LIMIT_REPLICA_RETRY_MS       {0, 1000, 5000, 15000, 60000} /* before a replica starts again */
#define LIMIT_SWITCH_WAIT_MS         5000 /* milliseconds that a rollback waits for its routes to be in force */
