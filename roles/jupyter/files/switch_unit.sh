#!/bin/sh
# Start a unit whose file is there, restart it where that has changed, and stop one whose file is gone.
# Arguments: UNIT and its TARGET.
set -e
unit=$1 wanted=/etc/systemd/system/$2.wants/$1

if [ -e "/etc/systemd/system/$unit" ]; then
  # A timer goes by its new time, too, after a restart.
  if [ -L "$wanted" ] && systemctl is-active --quiet "$unit" && [ "$(systemctl show -P NeedDaemonReload "$unit")" = no ]; then exit 0; fi
  systemctl daemon-reload
  systemctl enable --quiet "$unit"
  systemctl restart "$unit"
else
  if ! [ -L "$wanted" ] && ! systemctl is-active --quiet "$unit"; then exit 0; fi
  systemctl stop "$unit"
  rm -f "$wanted"
  systemctl daemon-reload
  # Without its file it would be named in each look at the host.
  systemctl reset-failed "${unit%.*}.*" 2>/dev/null || :
fi
echo changed
