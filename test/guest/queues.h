// The queues of a disk, as the guest's kernel sees them.
#pragma once

// Hardware queues the kernel uses for the disk: one per processor, unless the device offers fewer.
int queues_of(const char *disk);
// Prints how many interrupts each of them has had, {ev:"queues"}: a queue that nobody loaded has none.
void queues_tell(const char *disk);
