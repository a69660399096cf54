#include "core/dataset.h"
#include "core/run-data.h"

json_t *run_resolve_dataset(struct db_tx *tx, const char *project, const char *address, struct error *error)
{
    cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;
    char digest[DIGEST_TEXT_SIZE];
    json_t *files = json_array();

    if (dataset_resolve(tx, project, address, &info, error) < 0) {
        json_decref(files);
        return NULL;
    }
    for (size_t i = 0; i < info.n_files; i++)
        json_array_append_new(files, json_build("{s:s, s:s, s:I}", "name", info.files[i].name, "digest",
                                                digest_format(&info.files[i].digest, digest), "size",
                                                (json_int_t)info.files[i].size));
    return json_build("{s:s, s:s, s:s, s:o}", "name", info.name, "address", info.address, "project", info.project,
                      "files", files);
}

int run_use_datasets(struct db_tx *tx, const char *project, const char *run_id, const json_t *spec, struct error *error)
{
    const json_t *datasets = json_object_get(spec, "datasets");
    json_t *dataset;
    size_t i;

    json_array_foreach(datasets, i, dataset) {
        cleanup_dataset_info struct dataset_info info = DATASET_INFO_INIT;

        if (dataset_resolve(tx, json_get_string(dataset, "project", project), json_get_string(dataset, "address", ""),
                            &info, error) < 0 ||
            dataset_use(tx, &info, "run", run_id, true, error) < 0)
            return -1;
    }
    return 0;
}
