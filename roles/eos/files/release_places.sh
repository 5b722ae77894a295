#!/bin/sh
# Lazily: whoever uses a mount goes on, and a hung one holds up nobody. autofs keeps a place as long as anything is mounted
# there, and nothing else can wait at a place that it keeps.
set -e
map=/etc/auto.campushub-eos
held() { awk -v map=$map '$1 == map && $3 == "autofs" { print $2 }' /proc/mounts; }
stale() { held | while read -r place; do grep -qs "^$place " $map || echo "$place"; done; }
# Only after this it is known which units have lost their files.
[ "$1" = False ] || systemctl daemon-reload
gone=$(systemctl list-units --plain --no-legend --all --state=not-found '*.automount' campushub-watch-eos.timer | cut -d ' ' -f 1)
if [ "$1" = False ] && [ -z "$gone" ] && [ -z "$(stale)" ]; then exit; fi
if [ -n "$gone" ]; then
  # A name of a unit has no spaces. A timer without its file has failed, and would be named in each look at the host.
  # shellcheck disable=SC2086
  systemctl stop $gone
  # shellcheck disable=SC2086
  systemctl reset-failed $gone campushub-watch-eos.service 2>/dev/null || :
fi
if systemctl is-active --quiet autofs.service; then
  for place in $(stale); do
    # What was mounted last is on top.
    if awk -v place="$place" '$2 == place { top = $3 } END { exit top == "autofs" }' /proc/mounts; then umount --lazy "$place"; fi
  done
  systemctl reload autofs.service
  for _ in $(seq 40); do
    [ -n "$(stale)" ] || break
    sleep 0.25
  done
fi
echo changed
