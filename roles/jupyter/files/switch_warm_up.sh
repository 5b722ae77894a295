#!/bin/sh
set -e
timer=campushub-warm-up.timer
link=/etc/systemd/system/timers.target.wants/$timer
if [ -e /etc/systemd/system/$timer ]; then
  # A timer that was changed goes by its new time after a restart.
  if [ -L $link ] && systemctl is-active --quiet $timer && [ "$(systemctl show -P NeedDaemonReload $timer)" = no ]; then exit 0; fi
  systemctl daemon-reload
  systemctl enable --quiet $timer
  systemctl restart $timer
else
  if ! [ -L $link ] && ! systemctl is-active --quiet $timer; then exit 0; fi
  systemctl stop $timer
  rm -f $link
  systemctl daemon-reload
fi
echo changed
