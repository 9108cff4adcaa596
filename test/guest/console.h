// What the guest says: one JSON object per line, each written at once, so that lines of several threads never mix.
#pragma once
#include <stdio.h>

extern int console_fd;
#define say(format, ...) dprintf(console_fd, format "\n" __VA_OPT__(, ) __VA_ARGS__)
