#!/bin/sh
# Servers that run stay; those that start meanwhile start by themselves.
set -e
unit=campushub-prefork.service
link=/etc/systemd/system/multi-user.target.wants/$unit
environment=/opt/campushub/user
if [ -e /etc/systemd/system/$unit ]; then
  # The first environment is still being built; the handler that finishes it comes here again.
  if ! [ -x $environment/bin/campushub-prefork ]; then exit 0; fi
  # It runs what the link led to when it was started.
  running=$(readlink "/proc/$(systemctl show -P MainPID $unit)/cwd" || true)
  if [ -L $link ] && systemctl is-active --quiet $unit && [ "$(systemctl show -P NeedDaemonReload $unit)" = no ] \
    && [ "$running" = "$(readlink -f $environment)" ]; then exit 0; fi
  systemctl daemon-reload
  systemctl enable --quiet $unit
  systemctl restart $unit
else
  if ! [ -L $link ] && ! systemctl is-active --quiet $unit; then exit 0; fi
  systemctl stop $unit
  rm -f $link
  systemctl daemon-reload
fi
echo changed
