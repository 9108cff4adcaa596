/** How the TypeScript tests run: `npx vitest run --config .config/vitest.config.ts test/unit`. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  cacheDir: '.cache/vitest',
  test: {
    include: ['test/**/*.test.ts'],
    // Guests, hosts and QEMU share two cores: one file at a time keeps their timings meaningful.
    fileParallelism: false,
    // A guest under emulation boots in 3 s, in 10 s on a busy machine, where everything else takes as much longer.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // A test that hangs in its teardown is a leak; it is reported, not waited for.
    teardownTimeout: 10_000,
  },
});
