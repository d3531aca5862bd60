#!/usr/bin/env bash
# Makes bin/debian/{nginx,postgres,node,java}: root file systems for the images of the end-to-end tests, out of Debian's packages. The
# packages are unpacked and not installed, so that no service of theirs starts on this machine, and no program of theirs takes the place
# of another one.
set -euo pipefail
cd "$(dirname "$0")/../../.."
out=$PWD/bin/debian
here=$PWD/hack/images/debian

# root NAME PACKAGE... unpacks the packages into a new folder, without what only people read.
root() {
  local root=$out/$1 debs
  shift
  debs=$(mktemp -d)
  (cd "$debs" && { apt-get download -qq "$@" || { apt-get update -qq && apt-get download -qq "$@"; }; } 2>/dev/null)
  rm -rf "$root"
  mkdir -p "$root"/etc "$root"/tmp "$root"/run
  chmod 1777 "$root"/tmp
  for deb in "$debs"/*.deb; do dpkg -x "$deb" "$root"; done
  rm -rf "$debs" "$root"/usr/share/{doc,man,locale,lintian,bug,doc-base,postgresql-common} "$root"/usr/lib/systemd "$root"/lib/systemd
}

# user NAME UID makes the only user that the root knows.
user() {
  printf '%s:x:%s:%s::/:/bin/sh\n' "$2" "$3" "$3" >"$out/$1/etc/passwd"
  printf '%s:x:%s:\n' "$2" "$3" >"$out/$1/etc/group"
}

if [ ! "$out/done" -nt "$0" ] || [ "$here/postgres-entrypoint" -nt "$out/done" ]; then
  echo "unpacking nginx, PostgreSQL, Node.js and Java"
  root nginx nginx nginx-common
  # The numbers are those of the images that most people use.
  user nginx nginx 101

  root postgres postgresql-15 postgresql-client-15 dash
  user postgres postgres 999
  # What a just-in-time compiler needs, which is larger than all the rest.
  rm -rf "$out"/postgres/usr/lib/postgresql/15/lib/{bitcode,llvmjit*}
  install -D -m 0755 "$here/postgres-entrypoint" "$out/postgres/usr/local/bin/docker-entrypoint.sh"

  # Debian's own Node.js, also where another one is installed; what it is linked with is unpacked rather than installed, but for what
  # PostgreSQL needs as well.
  root node {nodejs,libnode108}/"$(. /etc/os-release && echo "$VERSION_CODENAME")" node-acorn node-cjs-module-lexer node-undici \
    libuv1 libc-ares2 libnghttp2-14 libbrotli1
  rm -rf "$out"/node/usr/share/systemtap
  user node node 1000

  # The compiler is in it, so that Java runs a source file.
  root java openjdk-17-jre-headless
  user java java 1000
  rm -rf "$out"/java/usr/lib/debug "$out"/java/usr/lib/jvm/*/{legal,man,docs} "$out"/java/usr/lib/jvm/*/lib/{ct.sym,server/classes_nocoops.jsa}
  touch "$out/done"
fi
