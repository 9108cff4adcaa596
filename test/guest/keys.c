// Reads /dev/input/event* itself: in a guest of one program there is neither udev nor acpid to do it.
#include "keys.h"
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MAX_DEVICES = 32 };
static struct pollfd devices[MAX_DEVICES];
static int device_count;

int keys_open(void) {
    int power_buttons = 0;
    for (int i = 0; i < MAX_DEVICES; i++) {
        char path[32];
        unsigned char keys[KEY_MAX / 8 + 1] = { 0 };
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        devices[device_count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
        if (ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) >= 0) power_buttons += keys[KEY_POWER / 8] >> KEY_POWER % 8 & 1;
    }
    return power_buttons;
}

enum wish keys_wait(int ms) {
    if (poll(devices, (nfds_t)device_count, ms) <= 0) return WISH_NONE;
    enum wish wish = WISH_NONE;
    for (int i = 0; i < device_count; i++) {
        struct input_event event;
        while (devices[i].revents & POLLIN && read(devices[i].fd, &event, sizeof event) == sizeof event) {
            if (event.type != EV_KEY || event.value != 1) continue;
            if (event.code == KEY_POWER) wish = WISH_POWER_OFF;
            else if (event.code == KEY_DELETE) wish = WISH_REBOOT;
        }
    }
    return wish;
}
