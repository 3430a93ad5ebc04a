#!/usr/bin/env bash
# Fails when a generated file differs from what api/openapi.yaml gives today.
# The working tree is left as it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

generated=(api/types.gen.go ui/src/api/schema.gen.ts)

# The generators write in place, so the files at hand step aside and come back.
tmp=$(mktemp -d)
cp -p --parents "${generated[@]}" "$tmp"
restore() {
  cp -p "$tmp/${generated[0]}" "${generated[0]}"
  cp -p "$tmp/${generated[1]}" "${generated[1]}"
  rm -rf "$tmp"
}
trap restore EXIT

go tool -modfile=tools/go.mod oapi-codegen -config api/oapi-codegen.yaml api/openapi.yaml
npm --prefix ui run --silent generate >/dev/null

stale=0
for file in "${generated[@]}"; do
  diff -u "$tmp/$file" "$file" || stale=1
done
if ((stale)); then
  echo "generated code is out of date: run 'make generate'" >&2
  exit 1
fi
