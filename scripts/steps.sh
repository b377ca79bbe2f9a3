# Functions that several scripts share: progress lines, Debian packages, and the requirements in pyproject.toml.
# It is sourced, never run.

# Programs that the tests run, or files that these need → the Debian packages that contain them. If several names are given,
# the package has one of them: 7-Zip is 7zz in Debian 12, and 7z in Debian 13.
declare -A PACKAGE_OF=(
  [/usr/share/nodejs/tar-stream]=node-tar-stream
  ["7zz 7z"]=7zip
  [bsdtar]=libarchive-tools
  [busybox]=busybox
  [bzip2]=bzip2
  [chromium]=chromium
  [curl]=curl
  [fish]=fish
  [jq]=jq
  [openssl]=openssl
  [ptar]=perl
  [tar]=tar
  [xz]=xz-utils
  [zsh]=zsh
  [zstd]=zstd
)
# Programs of Ceph's S3 server → the Debian packages that contain them.
declare -A CEPH_PACKAGE_OF=(
  [ceph]=ceph-common
  [ceph-authtool]=ceph-common
  [ceph-mon]=ceph-mon
  [ceph-osd]=ceph-osd
  [monmaptool]=ceph-common
  [radosgw]=radosgw
  [radosgw-admin]=radosgw
)

say() { # say TEXT...: print a progress line, with the seconds since the script began
  printf '[%3d s] %s\n' "$SECONDS" "$*" >&2
}

missing_packages() { # missing_packages TABLE: print the packages of the programs that are not installed
  local -n table=$1
  local names
  for names in "${!table[@]}"; do
    has_any $names || echo "${table[$names]}"
  done | sort -u
}

has_any() { # has_any NAME...: whether one of these programs is installed, or one of these paths exists
  local name
  for name; do
    if [[ $name == /* && -e $name ]] || command -v "$name" >/dev/null; then return; fi
  done
  return 1
}

may_install() { # whether Debian packages can be installed here
  ((EUID == 0)) && command -v apt-get >/dev/null
}

apt_install() { # apt_install PACKAGE...: install packages; print the output of apt-get if it fails
  local log
  log=$(
    {
      export DEBIAN_FRONTEND=noninteractive
      # If the update fails, the old lists may still do, so only the installation decides. Another apt-get may hold the
      # lock: wait for it.
      apt-get update -q
      apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
    } 2>&1 </dev/null
  ) || {
    printf '%s\n' "$log" | tail -n 20 >&2
    return 1
  }
}

requirements() { # requirements EXTRA...: print the requirements of blobpack and of these extras, one a line
  .venv/bin/python - "$@" <<'END'
import re, sys, tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
lines, extras = set(project["dependencies"]), sys.argv[1:]
for extra in extras:
    for line in project["optional-dependencies"][extra]:
        # An extra that includes another one names blobpack. pip must not see that: it would fetch the package that has
        # this name on PyPI, which is not this one.
        if included := re.fullmatch(r"blobpack\[(.+)\]", line):
            extras += [name.strip() for name in included[1].split(",")]
        else:
            lines.add(line)
print("\n".join(sorted(lines)))
END
}
