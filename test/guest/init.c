// PID 1 of the test guest: a whole Linux user space in one static program, without a shell.
//
//   modules -> console -> disks (adopts what an earlier boot wrote) -> "ready" -> load, one line per disk and second
//        power button: load stops -> every block read back -> versions told -> "verified", "done" -> power off
//        Delete key (Ctrl+Alt+Delete), w.secs, w.reboot: the same, then a reboot or a power off
//
// Kernel command line (defaults in parentheses):
//   w.disks=vda,vdb  disks to work on (every vd*)     w.span=MiB    part of each disk, 0 = all (64)
//   w.qd=N           writers per disk (1)             w.iops=N      requests/s per disk, 0 = as fast as possible (0)
//   w.read=PCT       share of reads (30)              w.fsync=N     fdatasync after N writes of a writer, 0 = never (16)
//   w.secs=N         power off after N s (0 = never)  w.reboot=N    reboot after N s, at every boot (0 = never)
//   w.table=N        tell all versions each N s (0)   w.adopt=0     do not look at what is on the disks (1)
//   w.mode=load      or idle: opens the disks, does nothing to them until it is stopped
//   w.out=hvc0       the console to talk to
//
// What it prints (JSON lines; other lines on the console are the kernel's):
//   {ev:"disk"} per disk, {ev:"ready"}, {t:second, disk, ...} per second, {ev:"error"}, {ev:"mismatch"}, {ev:"resized"},
//   at the end {ev:"stopping", why}, {ev:"queues"}, {ev:"verified"} and {ev:"versions"}... {ev:"table"} per disk, {ev:"done"}.
// test/support/guest.ts reads them and says what each field is.
#define _GNU_SOURCE
#include "console.h"
#include "keys.h"
#include "load.h"
#include "queues.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

int console_fd = 1;
static char command_line[4096];
static int idle;

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
static void read_line(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    if (fd >= 0) close(fd);
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}
// The word after `key` on the kernel command line, at the start of a word only.
static const char *option(const char *key, const char *fallback, char *out, size_t size) {
    snprintf(out, size, "%s", fallback);
    for (const char *at = command_line; (at = strstr(at, key)); at++)
        if (at == command_line || at[-1] == ' ') snprintf(out, size, "%.*s", (int)strcspn(at + strlen(key), " "), at + strlen(key));
    return out;
}
static long number(const char *key, long fallback, long least, long most) {
    char text[32], plain[32], *end;
    snprintf(plain, sizeof plain, "%ld", fallback);
    long value = strtol(option(key, plain, text, sizeof text), &end, 10);
    if (*end || value < least || value > most) {
        say("{\"ev\":\"option\",\"key\":\"%s\",\"value\":\"%s\",\"least\":%ld,\"most\":%ld,\"used\":%ld}", key, text, least, most, fallback);
        return fallback;
    }
    return value;
}

// /modules/00-virtio_ring.ko, 01-virtio.ko ...: the names give the order.
static void load_modules(void) {
    struct dirent **list;
    for (int i = 0, n = scandir("/modules", &list, NULL, alphasort); i < n; i++) {
        char path[300];
        if (list[i]->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/modules/%s", list[i]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0)) say("{\"ev\":\"module\",\"file\":\"%s\",\"errno\":%d}", path, errno);
        if (fd >= 0) close(fd);
    }
}

static void open_console(void) {
    char name[32], path[64];
    struct termios raw;
    snprintf(path, sizeof path, "/dev/%s", option("w.out=", "hvc0", name, sizeof name));
    for (int tries = 0, fd; tries < 200; tries++, usleep(10000)) {      // it appears a moment after its module
        if ((fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) continue;
        console_fd = fd;
        break;
    }
    if (tcgetattr(console_fd, &raw) == 0) cfmakeraw(&raw), tcsetattr(console_fd, TCSANOW, &raw);
}

static int is_disk(const struct dirent *entry) { return entry->d_name[0] == 'v' && entry->d_name[1] == 'd'; }
static void open_disks(void) {
    char names[128], *save, *name;
    uint64_t span_bytes = (uint64_t)number("w.span=", 64, 0, 1 << 20) << 20;
    int adopt = (int)number("w.adopt=", 1, 0, 1), error;
    if (!*option("w.disks=", "", names, sizeof names)) {
        struct dirent **list;
        for (int i = 0, n = scandir("/sys/block", &list, is_disk, alphasort); i < n; i++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%.15s", *names ? "," : "", list[i]->d_name);
    }
    for (name = strtok_r(names, ",", &save); name && disk_count < MAX_DISKS; name = strtok_r(NULL, ",", &save))
        if ((error = disk_open(name, span_bytes, adopt))) say("{\"ev\":\"missing\",\"disk\":\"%s\",\"errno\":%d}", name, error);
}

static void finish(enum wish wish, const char *why) {
    say("{\"ev\":\"stopping\",\"why\":\"%s\",\"then\":\"%s\"}", why, wish == WISH_REBOOT ? "reboot" : "power off");
    if (!idle) load_stop();
    for (struct disk *d = disks; d < disks + disk_count; d++) {
        queues_tell(d->name);
        disk_verify(d);
        disk_tell_versions(d, 1);
        if (fsync(d->fd)) say("{\"ev\":\"error\",\"disk\":\"%s\",\"op\":\"fsync\",\"block\":0,\"errno\":%d}", d->name, errno);
    }
    say("{\"ev\":\"done\",\"ms\":%llu}", (unsigned long long)now_ms());
    tcdrain(console_fd);
    usleep(20000);                    // the console's ring is emptied by the host in its own time; tcdrain does not wait for it
    reboot(wish == WISH_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF);
    say("{\"ev\":\"fatal\",\"text\":\"the kernel did not obey\"}");
    for (;;) pause();
}

int main(void) {
    char clock_source[32], text[32];
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mkdir("/proc", 0755), mount("proc", "/proc", "proc", 0, NULL);
    mkdir("/sys", 0755), mount("sys", "/sys", "sysfs", 0, NULL);
    reboot(RB_DISABLE_CAD);           // Ctrl+Alt+Delete must not reboot behind our back
    read_line("/proc/cmdline", command_line, sizeof command_line);
    load_modules();
    open_console();
    open_disks();
    int buttons = keys_open();
    struct load how = {
        .queue_depth = (int)number("w.qd=", 1, 1, MAX_WRITERS / (disk_count ? disk_count : 1)),
        .read_percent = (int)number("w.read=", 30, 0, 100),
        .writes_per_flush = (int)number("w.fsync=", 16, 0, 1000000),
        .requests_per_second = (int)number("w.iops=", 0, 0, 1000000),
    };
    long seconds = number("w.secs=", 0, 0, 1000000), reboot_after = number("w.reboot=", 0, 0, 1000000), table_each = number("w.table=", 0, 0, 1000000);
    for (struct disk *d = disks; d < disks + disk_count; d++)
        if (d->blocks < (uint64_t)how.queue_depth) how.queue_depth = 1;
    read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", clock_source, sizeof clock_source);
    say("{\"ev\":\"ready\",\"ms\":%llu,\"disks\":%d,\"clock\":\"%s\",\"cpus\":%ld,\"powerButtons\":%d}", (unsigned long long)now_ms(), disk_count,
        clock_source, sysconf(_SC_NPROCESSORS_ONLN), buttons);

    idle = !strcmp(option("w.mode=", "load", text, sizeof text), "idle");
    if (!idle) load_start(&how);
    uint64_t next = now_ms() + 1000;
    for (long second = 1;;) {
        uint64_t t = now_ms();
        enum wish wish = keys_wait(t < next ? (int)(next - t) : 0);
        if (wish != WISH_NONE) finish(wish, wish == WISH_REBOOT ? "key" : "power button");
        if (now_ms() < next) continue;
        if (!idle) load_report(second);
        if (table_each && second % table_each == 0)
            for (struct disk *d = disks; d < disks + disk_count; d++) disk_tell_versions(d, 0);
        if (seconds && second >= seconds) finish(WISH_POWER_OFF, "w.secs");
        if (reboot_after && second >= reboot_after) finish(WISH_REBOOT, "w.reboot");
        second++, next += 1000;
    }
}
