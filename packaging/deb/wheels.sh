# shellcheck shell=bash
# What is fetched for one architecture; sourced by build and lock.

PYTHONS="3.11 3.12 3.13"
# No wheel of it is published: one module, taken out of its source archive.
SOURCE_ONLY=sdnotify

machine() { # machine ARCH: Debian's name -> Python's
  case $1 in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) echo "tsd is packaged for amd64 and arm64, not for $1" >&2; return 1 ;;
  esac
}

install_tools() { # install_tools PACKAGE...: they, and what fetching needs
  local packages=(python3-pip python3-setuptools python3-wheel "$@") missing
  missing=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "${packages[@]}" \
    2>&1 | grep -v '^installed ' || true)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "needed to build: sudo apt-get install ${packages[*]}" >&2
    return 1
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
}

fetch() { # fetch ARCH FOLDER OPTION...: all files of the packages that the options name
  local arch=$1 folder=$2 platforms=() python glibc
  shift 2
  # Debian 12 has glibc 2.36; what is published asks for 2.28 or less.
  for glibc in 2_28 2_17 2_12 2_5; do
    platforms+=(--platform "manylinux_${glibc}_$(machine "$arch")")
  done
  for python in $PYTHONS; do
    /usr/bin/python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
      --no-build-isolation --only-binary :all: --no-binary "$SOURCE_ONLY" \
      --implementation cp --abi "cp${python/./}" --abi abi3 --abi none \
      --python-version "$python" "${platforms[@]}" --dest "$folder" "$@"
  done
}
