#!/usr/bin/env bash
# What a new student does, on a Debian that has python3, python3-venv, make and git and nothing else: clone, make
# install, make test, what Binder runs in its image, and make lab until it serves lesson 00, as an ordinary user. For
# now and then, not for every change: it needs root, debootstrap (apt-get install debootstrap), 9 GB and half an hour.
#
#   tests/bare_debian.sh trixie /var/tmp/trixie                             # Debian 13, the whole of make test
#   tests/bare_debian.sh bookworm /var/tmp/bookworm ARGS=tests/test_cam.py  # Debian 12, some of it
#
# It takes the last commit, Debian's mirror from apt's settings here (or from MIRROR), and pip's settings, those of
# uv, proxies and certificates from pip and the environment here. The folder is yours to delete.
set -euo pipefail

if [ $# -lt 2 ] || [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
  echo "as root, with debootstrap: $0 SUITE FOLDER [what make test is given]" >&2
  exit 2
fi

# mounts and processes of its own, which end with it
if [ "${BARE_DEBIAN:-}" != inside ]; then
  BARE_DEBIAN=inside exec unshare --mount --pid --fork --kill-child "$0" "$@"
fi

suite=$1 root=$(realpath -m "$2")
shift 2
repository=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -e "$root/bare" ]; then
  mirror=${MIRROR:-$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" { print $2; exit }')}
  debootstrap --variant=minbase --include=python3,python3-venv,make,git "$suite" "$root" "$mirror"
  chroot "$root" useradd --create-home --shell /bin/bash student
  touch "$root/bare"
fi
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev/shm" # locks that processes share

# pip's settings as variables, and every file that a variable names, such as a certificate
settings=(HOME=/home/student PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8)
while IFS= read -r setting; do settings+=("$setting"); done < <(
  python3 -m pip config list | sed -n "s/^\(global\|install\)\.\([a-z-]*\)='\(.*\)'$/\2 \3/p" |
    awk '{ name = toupper($1); gsub("-", "_", name); sub(/^[^ ]* /, ""); print "PIP_" name "=" $0 }'
  env | grep -E '^(PIP_|UV_|SSL_CERT_|REQUESTS_CA_BUNDLE=|(https?|no|all)_proxy=)' || true
)
for setting in "${settings[@]}"; do
  file=${setting#*=}
  if [ -f "$file" ]; then
    install -D --mode=644 "$file" "$root$file"
  fi
done
install --mode=644 "$(realpath /etc/resolv.conf)" "$root/etc/resolv.conf"

as_student() {
  chroot "$root" setpriv --reuid=student --regid=student --init-groups env -i "${settings[@]}" \
    bash -euo pipefail -c "cd ~ && $1" bash "${@:2}"
}

rm -rf "$root/home/student/course" "$root/home/student/.cache"
git -C "$repository" bundle create --quiet "$root/home/student/course.bundle" HEAD
as_student 'git -c advice.detachedHead=false -c init.defaultBranch=main clone --quiet course.bundle course'
as_student 'cat /etc/debian_version && python3 --version && git -C course log -1 --format="%h %s"'
as_student 'cd course && time make install'
as_student 'cd course && time make test "$@"' "$@"
as_student 'cd course && export PATH="$PWD/.venv/bin:$PATH" && binder/postBuild && binder/start jupyter lab workspaces list'
as_student 'cd course && .venv/bin/python -' <<'PYTHON'
import os, signal, subprocess, urllib.request
from pathlib import Path
from tests.jupyter_server import address

log = Path.home() / "lab.log"
with log.open("wb") as out:
    server = subprocess.Popen(["make", "lab", "ARGS=--no-browser"], stdout=out, stderr=out, start_new_session=True)
where = address(server, log)
with urllib.request.urlopen(where, timeout=60) as page:
    print(page.status, where.partition("?")[0])
assert "00_start_here" in where
os.killpg(server.pid, signal.SIGTERM)
server.wait()
PYTHON
