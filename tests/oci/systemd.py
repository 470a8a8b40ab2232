"""Stands in for systemd's manager on a bus of its own: notes what it is asked for, one line of JSON each.

usage: systemd.py LOG [fail]   (DBUS_SYSTEM_BUS_ADDRESS names the bus; with `fail` the scope's job fails)
"""

import json
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

MANAGER = "org.freedesktop.systemd1.Manager"
log = open(sys.argv[1], "a", buffering=1)
result = "failed" if sys.argv[2:] == ["fail"] else "done"


def plain(value):
    if isinstance(value, dbus.Boolean):
        return bool(value)
    if isinstance(value, (dbus.UInt32, dbus.UInt64)):
        return int(value)
    if isinstance(value, dbus.Array):
        return [plain(v) for v in value]
    return str(value)


def note(method, unit, properties=()):
    log.write(json.dumps([method, str(unit), {str(k): plain(v) for k, v in properties}]) + "\n")


class Manager(dbus.service.Object):
    jobs = 0

    def job(self, unit):
        Manager.jobs += 1
        path = f"/org/freedesktop/systemd1/job/{Manager.jobs}"
        # Another job's end comes first.
        GLib.idle_add(lambda: self.JobRemoved(0, "/org/freedesktop/systemd1/job/0", "other.service", "done"))
        GLib.timeout_add(50, lambda: self.JobRemoved(Manager.jobs, path, unit, result))
        return path

    @dbus.service.method(MANAGER, "ssa(sv)a(sa(sv))", "o")
    def StartTransientUnit(self, name, mode, properties, aux):
        if list(dict(properties).get("PIDs", [])) == []:
            raise dbus.exceptions.DBusException("no processes", name="org.freedesktop.DBus.Error.InvalidArgs")
        note("start " + mode, name, properties)
        return self.job(name)

    @dbus.service.method(MANAGER, "ss", "o")
    def StopUnit(self, name, mode):
        note("stop " + mode, name)
        return self.job(name)

    @dbus.service.method(MANAGER, "sba(sv)", "")
    def SetUnitProperties(self, name, runtime, properties):
        note(f"set {bool(runtime)}", name, properties)

    @dbus.service.method(MANAGER, "s", "")
    def ResetFailedUnit(self, name):
        raise dbus.exceptions.DBusException("not loaded", name="org.freedesktop.systemd1.NoSuchUnit")

    @dbus.service.method(MANAGER, "", "")
    def Subscribe(self):
        pass

    @dbus.service.signal(MANAGER, "uoss")
    def JobRemoved(self, number, job, unit, result):
        pass


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SystemBus()
name = dbus.service.BusName("org.freedesktop.systemd1", bus)
manager = Manager(bus, "/org/freedesktop/systemd1")
log.write('["ready", "", {}]\n')
GLib.MainLoop().run()
