// What a person presses: the ACPI power button, and Delete (of Ctrl+Alt+Delete) on the keyboard.
#pragma once

enum wish { WISH_NONE, WISH_POWER_OFF, WISH_REBOOT };

// Opens every input device that is there now. Returns how many have a power button.
int keys_open(void);
// Waits up to `ms` for a key and says what it asks for; WISH_NONE when none was pressed.
enum wish keys_wait(int ms);
