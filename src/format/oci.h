/*
 * Container images: the OCI image layout in one tar, which `docker load`, podman and skopeo take.
 *
 * Source of the format: OCI image specification 1.0 (layout, manifest, config, layer), and the older
 * manifest.json beside it, because Docker before 25 reads only that.
 *
 *     oci-layout  index.json  manifest.json  blobs/sha256/<digest>…
 *
 * Reproducible: entries sorted by the caller's order, times and owners zero, nothing of this machine in
 * it; the same files and settings give the same bytes and so the same digest, everywhere.
 *
 *     oci_layer_begin(image); oci_add_*(image, …); oci_layer_end(image);     once for each layer
 *     oci_finish(image, &settings, fd, &digest, error);                      frees in any case
 *
 * Put what changes rarely into the first layer: layers are stored and transferred once.
 */
#pragma once

#include <sys/types.h>
#include "util/error.h"
#include "util/hash.h"
#include "util/json.h"

struct oci_image;

/* Works in an unlinked file below `scratch`. NULL with an error if that cannot be made. */
struct oci_image *oci_new(const char *scratch, struct error *error);
struct oci_image *oci_free(struct oci_image *image);
DEFINE_CLEANUP(struct oci_image *, oci_free)
#define cleanup_oci CLEANUP(oci_free_cleanup)

int oci_layer_begin(struct oci_image *image, const char *created_by, struct error *error);
/* Names are relative ("usr/bin/slipway"), fs_is_safe_name() holds. Directories above are added by
 * themselves, mode 0755, once. A name that is there already in the layer is ERROR_EXISTS. */
int oci_add_bytes(struct oci_image *image, const char *name, mode_t mode, const void *data, size_t length,
                  struct error *error);
/* The content of a file of this machine; links are followed. */
int oci_add_file(struct oci_image *image, const char *name, mode_t mode, const char *path, struct error *error);
int oci_add_directory(struct oci_image *image, const char *name, mode_t mode, struct error *error);
int oci_add_link(struct oci_image *image, const char *name, const char *target, struct error *error);
/* All regular files, directories and links below a directory, sorted, under `name`; executable bits are kept.
 * `skip` (may be NULL) says which names (relative to directory) to leave out. */
int oci_add_tree(struct oci_image *image, const char *name, const char *directory, bool (*skip)(const char *relative),
                 struct error *error);
bool oci_has(const struct oci_image *image, const char *name);
int oci_layer_end(struct oci_image *image, struct error *error);

struct oci_settings {
    const char *name;               /* "slipway/vision-digits:7"; how docker lists it */
    const char *architecture;       /* "amd64", "arm64"; NULL: this machine's */
    const char *const *entrypoint;  /* NULL-terminated */
    const char *const *environment; /* NAME=VALUE, NULL-terminated; may be NULL */
    const char *directory;          /* working directory; NULL: / */
    const char *user;               /* "65534:65534"; NULL: root */
    const char *port;               /* exposed, "8480/tcp"; NULL: none */
    json_t *labels;                 /* object of strings; borrowed; may be NULL */
};

/* Writes the tar. *ret_digest is that of the image manifest, which names the image. */
int oci_finish(struct oci_image *image, const struct oci_settings *settings, int fd, struct digest *ret_digest,
               struct error *error);
