#!/bin/sh
# Runs one fuzz target for some seconds with the stable compiler: coverage by flags, without the nightly-only sanitizers.
# Usage: sh fuzz/run.sh TARGET [SECONDS]. What crashed is left in fuzz/artifacts/TARGET, the corpus in fuzz/corpus/TARGET (neither is committed).
set -eu
target=$1
seconds=${2:-60}
cd "$(dirname "$0")"
mkdir -p "corpus/$target" "artifacts/$target"
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing" \
  cargo build --locked --release --bin "$target" --target-dir ../target/fuzz --target "$(rustc -vV | sed -n 's/^host: //p')"
exec "../target/fuzz/$(rustc -vV | sed -n 's/^host: //p')/release/$target" \
  "corpus/$target" -max_total_time="$seconds" -artifact_prefix="artifacts/$target/" -rss_limit_mb=1024 -timeout=10 -max_len=16384
