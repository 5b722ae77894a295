#!/bin/sh
# switch_mounts.sh CHANGED: have /cvmfs held by what the files say, autofs or units of systemd, and by nothing else. By what the
# host shows, and not by what this run has written: a run that was cut off between the two would never come to it.
set -e
held() { grep -q '^/etc/auto.cvmfs /cvmfs autofs ' /proc/mounts; }
named() { grep -qs '^/cvmfs[[:space:]]' /etc/auto.master /etc/auto.master.d/*.autofs; }
stale() { held && ! named; }
# A host without the client has no map, which autofs would miss.
unread() { [ -e /etc/auto.cvmfs ] && named && ! held; }
# autofs ends by itself when a reload leaves it without any map. It is started for our own file alone: whoever names /cvmfs
# elsewhere may have stopped it.
ended() {
  [ -e /etc/auto.cvmfs ] && grep -qs '^# Managed by CampusHub' /etc/auto.master.d/cvmfs.autofs &&
    ! { systemctl is-enabled --quiet autofs.service && systemctl is-active --quiet autofs.service; }
}
# Only after this it is known which units have lost their files.
[ "$1" = False ] || systemctl daemon-reload
gone=$(systemctl list-units --plain --no-legend --all --state=not-found 'cvmfs-*.automount' | cut -d ' ' -f 1)
autofs=$(systemctl is-active autofs.service || :)
if [ -z "$gone" ] && ! ended && { [ "$autofs" != active ] || { ! stale && ! unread; }; }; then exit; fi
if [ -n "$gone" ] || stale; then
  # Lazily: who uses a repository goes on, and a hung one holds up nobody.
  awk '$2 ~ "^/cvmfs/" && $3 ~ "^fuse" { print $2 }' /proc/mounts | xargs -r -n 1 umount --lazy
fi
# A name of a unit has no spaces.
# shellcheck disable=SC2086
[ -z "$gone" ] || systemctl stop $gone
if [ "$autofs" = active ]; then
  # autofs takes no notice of a reload while it is at another.
  for _ in $(seq 20); do
    systemctl reload autofs.service || break
    sleep 0.5
    stale || unread || break
  done
fi
! ended || systemctl enable --quiet --now autofs.service
echo changed
