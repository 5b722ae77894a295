#!/bin/sh
# Start a unit whose file is there, restart it where that has changed, and stop one whose file is gone.
# Arguments: UNIT, its TARGET and, for a service that runs a program of an environment, the LINK to the latter's version.
set -e
unit=$1 wanted=/etc/systemd/system/$2.wants/$1 environment=${3:-}

runs_this_version() {
  # It runs what the link led to when it was started.
  [ -z "$environment" ] || [ "$(readlink "/proc/$(systemctl show -P MainPID "$unit")/cwd")" = "$(readlink -f "$environment")" ]
}

if [ -e "/etc/systemd/system/$unit" ]; then
  # The first environment is still being built; the handler that finishes it comes here again.
  if [ -n "$environment" ] && ! [ -x "$environment/bin/${unit%.service}" ]; then exit 0; fi
  # A timer goes by its new time, too, after a restart.
  if [ -L "$wanted" ] && systemctl is-active --quiet "$unit" && [ "$(systemctl show -P NeedDaemonReload "$unit")" = no ] \
    && runs_this_version; then exit 0; fi
  systemctl daemon-reload
  systemctl enable --quiet "$unit"
  systemctl restart "$unit"
else
  if ! [ -L "$wanted" ] && ! systemctl is-active --quiet "$unit"; then exit 0; fi
  systemctl stop "$unit"
  rm -f "$wanted"
  systemctl daemon-reload
fi
echo changed
