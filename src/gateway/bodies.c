/* What the bodies of the serving port's calls look like, for its OpenAPI document. The codecs check what they are given
 * themselves, and in more detail; the tests check real answers against these rows. */
#include "format/frame.h"
#include "gateway/surface.h"
#include "util/limits.h"

static const char *const datatypes[] = {"BOOL",  "UINT8", "UINT16", "UINT32", "UINT64", "INT8",  "INT16",
                                        "INT32", "INT64", "FP16",   "FP32",   "FP64",   "BYTES", NULL};
_Static_assert(ARRAY_SIZE(datatypes) == FRAME_TYPE_COUNT_ + 1, "a word for each type");

/* -- failures -- */

static const struct schema_field detail_fields[] = {
    {"code", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "stable and machine-readable"},
    {"message", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "a sentence for people"},
    {},
};
static const struct schema detail = {"ErrorDetail", detail_fields};
static const struct schema_field error_fields[] = {{"error", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &detail}, {}};
const struct schema body_error = {"Error", error_fields, "a failure of /predict and of what belongs to no protocol"};

static const struct schema_field oip_error_fields[] = {{"error", SCHEMA_STRING, SCHEMA_REQUIRED}, {}};
const struct schema body_oip_error = {"ProtocolError", oip_error_fields, "a failure below /v1 and /v2"};

static const struct schema_field mlflow_error_fields[] = {
    {"error_code", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "BAD_REQUEST, RESOURCE_DOES_NOT_EXIST, …"},
    {"message", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
const struct schema body_mlflow_error = {"InvocationError", mlflow_error_fields, "a failure of /invocations"};

/* -- Open Inference Protocol v2 -- */

static const struct schema_field server_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"extensions", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_STRING},
    {},
};
const struct schema body_server = {"ServerMetadata", server_fields};

static const struct schema_field live_fields[] = {{"live", SCHEMA_BOOLEAN, SCHEMA_REQUIRED}, {}};
const struct schema body_live = {"ServerLive", live_fields};
static const struct schema_field ready_fields[] = {{"ready", SCHEMA_BOOLEAN, SCHEMA_REQUIRED}, {}};
const struct schema body_ready = {"ServerReady", ready_fields};

static const struct schema_field model_ready_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED}, {"ready", SCHEMA_BOOLEAN, SCHEMA_REQUIRED}, {}};
const struct schema body_model_ready = {"ModelReady", model_ready_fields};

static const struct schema_field signature_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"datatype", SCHEMA_STRING, SCHEMA_REQUIRED, .values = datatypes},
    {"shape", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER, .doc = "-1: any length"},
    {},
};
static const struct schema signature = {"TensorMetadata", signature_fields};
static const struct schema_field metadata_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"versions", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_STRING},
    {"platform", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"inputs", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &signature},
    {"outputs", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &signature},
    {},
};
const struct schema body_metadata = {"ModelMetadata", metadata_fields};

static const struct schema_field statistics_fields[] = {
    {"model_stats", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .doc = "one a version, as Triton has them"},
    {},
};
const struct schema body_statistics = {"ModelStatistics", statistics_fields};

static const struct schema_field config_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"platform", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"backend", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"max_batch_size", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"input", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT},
    {"output", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT},
    {},
};
const struct schema body_config = {"ModelConfig", config_fields, "as Triton has it", .open = true};

static const struct schema_field index_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED, .values = (const char *const[]){"READY", "UNAVAILABLE", NULL}},
    {"reason", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
const struct schema body_index = {"RepositoryEntry", index_fields};

static const struct schema_field input_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .max = FRAME_NAME - 1},
    {"datatype", SCHEMA_STRING, SCHEMA_REQUIRED, .values = datatypes},
    {"shape", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER, .max = FRAME_RANK},
    {"parameters", SCHEMA_OBJECT, .doc = "binary_data_size: bytes of it behind the JSON part"},
    {"data", SCHEMA_ARRAY, .item = SCHEMA_ANY, .doc = "row-major, flat or nested"},
    {},
};
static const struct schema input = {"InferInput", input_fields, .open = true};
static const struct schema_field wish_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED}, {"parameters", SCHEMA_OBJECT, .doc = "binary_data: true"}, {}};
static const struct schema wish = {"InferWish", wish_fields, .open = true};
static const struct schema_field infer_fields[] = {
    {"id", SCHEMA_STRING, .doc = "comes back in the answer"},
    {"parameters", SCHEMA_OBJECT, .doc = "binary_data_output: true for all outputs"},
    {"inputs", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &input, .min = 1, .max = FRAME_TENSORS},
    {"outputs", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .object = &wish, .doc = "absent: all"},
    {},
};
const struct schema body_infer = {"InferRequest", infer_fields, .open = true};

static const struct schema_field output_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"datatype", SCHEMA_STRING, SCHEMA_REQUIRED, .values = datatypes},
    {"shape", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_INTEGER},
    {"parameters", SCHEMA_OBJECT},
    {"data", SCHEMA_ARRAY, .item = SCHEMA_ANY},
    {},
};
static const struct schema output = {"InferOutput", output_fields};
static const struct schema_field inferred_fields[] = {
    {"model_name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"model_version", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"id", SCHEMA_STRING},
    {"outputs", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &output},
    {},
};
const struct schema body_inferred = {"InferResponse", inferred_fields};

/* -- TensorFlow Serving -- */

static const struct schema_field tfs_fields[] = {
    {"instances", SCHEMA_ARRAY, .item = SCHEMA_ANY, .doc = "rows; either these or inputs"},
    {"inputs", SCHEMA_ANY, .doc = "columns: the value of the only input, or an object by input"},
    {"signature_name", SCHEMA_STRING, .values = (const char *const[]){"", "serving_default", NULL}},
    {},
};
const struct schema body_tfs = {"PredictRequest", tfs_fields, "what an instance is to which model: docs/PROTOCOLS.md"};
static const struct schema_field tfs_answer_fields[] = {
    {"predictions", SCHEMA_ANY, .doc = "to instances"}, {"outputs", SCHEMA_ANY, .doc = "to inputs"}, {}};
const struct schema body_tfs_answer = {"PredictResponse", tfs_answer_fields};

static const struct schema_field status_fields[] = {
    {"error_code", SCHEMA_STRING, SCHEMA_REQUIRED}, {"error_message", SCHEMA_STRING, SCHEMA_REQUIRED}, {}};
static const struct schema status = {"VersionStatusDetail", status_fields};
static const struct schema_field version_fields[] = {
    {"version", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED, .values = (const char *const[]){"AVAILABLE", "LOADING", NULL}},
    {"status", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &status},
    {},
};
static const struct schema version = {"VersionStatus", version_fields};
static const struct schema_field tfs_status_fields[] = {
    {"model_version_status", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &version}, {}};
const struct schema body_tfs_status = {"ModelStatus", tfs_status_fields};

/* -- MLflow -- */

static const struct schema_field mlflow_fields[] = {
    {"inputs", SCHEMA_ANY, .doc = "one of the four: as in :predict"},
    {"instances", SCHEMA_ARRAY, .item = SCHEMA_ANY, .doc = "as in :predict"},
    {"dataframe_split", SCHEMA_OBJECT, .doc = "columns: names; data: rows; index is not looked at"},
    {"dataframe_records", SCHEMA_ARRAY, .item = SCHEMA_OBJECT, .doc = "objects with equal fields"},
    {"params", SCHEMA_OBJECT, .doc = "must be empty"},
    {},
};
const struct schema body_mlflow = {"Invocation", mlflow_fields};
static const struct schema_field mlflow_answer_fields[] = {{"predictions", SCHEMA_ANY, SCHEMA_REQUIRED}, {}};
const struct schema body_mlflow_answer = {"InvocationResponse", mlflow_answer_fields};

/* -- ours -- */

static const struct schema_field health_fields[] = {
    {"status", SCHEMA_STRING, SCHEMA_REQUIRED, .values = (const char *const[]){"ready", "not_ready", NULL}},
    {"endpoints", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {},
};
const struct schema body_health = {"Health", health_fields};
