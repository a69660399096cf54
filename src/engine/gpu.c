#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/gpu.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define GPUS_MAX  256
#define UUID_SIZE 96 /* NVML_DEVICE_UUID_V2_BUFFER_SIZE */

/* The few declarations of nvml.h that are needed; the ABI is stable. */
typedef void *nvml_device;
struct nvml_memory {
    unsigned long long total, free, used;
};
typedef int (*nvml_init_fn)(void);
typedef int (*nvml_shutdown_fn)(void);
typedef int (*nvml_count_fn)(unsigned *count);
typedef int (*nvml_handle_fn)(unsigned index, nvml_device *device);
typedef int (*nvml_memory_fn)(nvml_device device, struct nvml_memory *memory);
typedef int (*nvml_uuid_fn)(nvml_device device, char *uuid, unsigned length);
typedef int (*nvml_minor_fn)(nvml_device device, unsigned *minor);

struct gpu {
    char uuid[UUID_SIZE];
    unsigned minor; /* /dev/nvidia<minor> */
};

struct gpus {
    int count;
    struct gpu *devices;
    uint64_t *memory;
    char *note;
};

struct nvml {
    void *library;
    nvml_init_fn init;
    nvml_shutdown_fn shutdown;
    nvml_count_fn count;
    nvml_handle_fn handle;
    nvml_memory_fn memory;
    nvml_uuid_fn uuid;
    nvml_minor_fn minor;
};

static bool load(struct nvml *nvml, const char *path, char **ret_note)
{
    const struct {
        const char *name;
        void **to;
    } symbols[] = {
        {"nvmlInit_v2", (void **)&nvml->init},
        {"nvmlShutdown", (void **)&nvml->shutdown},
        {"nvmlDeviceGetCount_v2", (void **)&nvml->count},
        {"nvmlDeviceGetHandleByIndex_v2", (void **)&nvml->handle},
        {"nvmlDeviceGetMemoryInfo", (void **)&nvml->memory},
        {"nvmlDeviceGetUUID", (void **)&nvml->uuid},
        {"nvmlDeviceGetMinorNumber", (void **)&nvml->minor},
    };

    nvml->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library) {
        *ret_note = xasprintf("%s", dlerror());
        return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
        *symbols[i].to = dlsym(nvml->library, symbols[i].name);
        if (!*symbols[i].to) {
            *ret_note = xasprintf("%s lacks %s", path, symbols[i].name);
            return false;
        }
    }
    return true;
}

static void read_devices(struct gpus *gpus, const struct nvml *nvml)
{
    unsigned count = 0;

    if (nvml->count(&count) != 0 || count == 0) {
        gpus->note = xstrdup("the driver knows no device");
        return;
    }
    if (count > GPUS_MAX)
        count = GPUS_MAX;
    gpus->devices = xcalloc(count, sizeof(*gpus->devices));
    gpus->memory = xcalloc(count, sizeof(*gpus->memory));
    for (unsigned i = 0; i < count; i++) {
        struct nvml_memory memory = {0};
        nvml_device device = NULL;
        struct gpu *gpu = &gpus->devices[i];

        gpu->minor = i;
        if (nvml->handle(i, &device) == 0) {
            nvml->memory(device, &memory);
            nvml->uuid(device, gpu->uuid, sizeof(gpu->uuid));
            nvml->minor(device, &gpu->minor);
        }
        gpu->uuid[UUID_SIZE - 1] = '\0';
        gpus->memory[i] = memory.total;
    }
    gpus->count = (int)count;
}

struct gpus *gpus_open(const char *library)
{
    const char *from_environment = getenv("SLIPWAY_NVML");
    struct gpus *gpus = xnew0(struct gpus);
    struct nvml nvml = {0};
    int r;

    if (!library)
        library = from_environment ? from_environment : "libnvidia-ml.so.1";
    if (load(&nvml, library, &gpus->note)) {
        r = nvml.init();
        if (r == 0) {
            read_devices(gpus, &nvml);
            nvml.shutdown();
        } else {
            gpus->note = xasprintf("the NVIDIA driver does not answer (NVML error %d)", r);
        }
    }
    if (nvml.library)
        dlclose(nvml.library);
    return gpus;
}

struct gpus *gpus_close(struct gpus *gpus)
{
    if (!gpus)
        return NULL;
    free(gpus->devices);
    free(gpus->memory);
    free(gpus->note);
    free(gpus);
    return NULL;
}

int gpus_count(const struct gpus *gpus)
{
    return gpus->count;
}

uint64_t *gpus_memory(struct gpus *gpus)
{
    return gpus->memory;
}

const char *gpus_uuid(const struct gpus *gpus, int index)
{
    return index >= 0 && index < gpus->count ? gpus->devices[index].uuid : NULL;
}

const char *gpus_note(const struct gpus *gpus)
{
    return gpus->note;
}

void gpus_devices(const struct gpus *gpus, const char *list, struct strvec *ret_paths)
{
    static const char *const common[] = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
                                         "/dev/nvidia-modeset"};
    cleanup_strvec struct strvec indices = STRVEC_INIT;

    if (!list || !*list)
        return;
    strvec_split(&indices, list, ',');
    for (size_t i = 0; i < indices.count; i++) {
        int index = (int)strtol(indices.items[i], NULL, 10);

        if (index >= 0 && index < gpus->count)
            strvec_pushf(ret_paths, "/dev/nvidia%u", gpus->devices[index].minor);
    }
    for (size_t i = 0; i < ARRAY_SIZE(common); i++)
        if (fs_exists(common[i]))
            strvec_push(ret_paths, common[i]);
}

void gpus_libraries(struct strvec *ret_paths)
{
    static const char *const directories[] = {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64",
                                              "/usr/lib"};
    static const char *const prefixes[] = {"libcuda.so", "libnvidia-", "libnvcuvid.so"};

    for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
        cleanup_closedir DIR *directory = opendir(directories[i]);
        struct dirent *entry;

        while (directory && (entry = readdir(directory)))
            for (size_t k = 0; k < ARRAY_SIZE(prefixes); k++)
                if (strncmp(entry->d_name, prefixes[k], strlen(prefixes[k])) == 0 && strstr(entry->d_name, ".so"))
                    strvec_pushf(ret_paths, "%s/%s", directories[i], entry->d_name);
    }
    if (fs_exists("/usr/bin/nvidia-smi"))
        strvec_push(ret_paths, "/usr/bin/nvidia-smi");
}
