// Both figures are the kernel's own: /sys/block/<disk>/mq has a folder per hardware queue, and /proc/interrupts a line per MSI-X vector,
// "virtio1-req.2" for the third queue of the second virtio device, with a column per processor.
#define _GNU_SOURCE
#include "queues.h"
#include "console.h"
#include <dirent.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_number(const struct dirent *entry) { return entry->d_name[0] >= '0' && entry->d_name[0] <= '9'; }

int queues_of(const char *disk) {
    struct dirent **list;
    char path[64];
    snprintf(path, sizeof path, "/sys/block/%s/mq", disk);
    int count = scandir(path, &list, is_number, alphasort);
    return count > 0 ? count : 0;
}

// Adds up the columns of a line of /proc/interrupts; they end where the name of the chip begins.
static unsigned long long sum_of(const char *at) {
    unsigned long long sum = 0, one;
    for (int length; sscanf(at, " %llu%n", &one, &length) == 1; at += length) sum += one;
    return sum;
}

void queues_tell(const char *disk) {
    char path[64], device[256], name[300], line[4096], counts[4096] = "";
    snprintf(path, sizeof path, "/sys/block/%s/device", disk);
    ssize_t n = readlink(path, device, sizeof device - 1);
    device[n > 0 ? n : 0] = 0;
    FILE *interrupts = fopen("/proc/interrupts", "r");
    for (int queue = 0, queues = queues_of(disk); interrupts && queue < queues; queue++) {
        unsigned long long count = 0;
        int end = snprintf(name, sizeof name, " %s-req.%d\n", basename(device), queue);
        for (rewind(interrupts); fgets(line, sizeof line, interrupts);) {
            char *columns = strchr(line, ':');
            size_t length = strlen(line);
            if (columns && length > (size_t)end && !strcmp(line + length - end, name)) count = sum_of(columns + 1);
        }
        size_t used = strlen(counts);
        snprintf(counts + used, sizeof counts - used, "%s%llu", queue ? "," : "", count);
    }
    if (interrupts) fclose(interrupts);
    say("{\"ev\":\"queues\",\"disk\":\"%s\",\"interrupts\":[%s]}", disk, counts);
}
