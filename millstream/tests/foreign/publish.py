"""Publishes with paho-mqtt, and prints as one line of JSON what happened to it."""

import argparse
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LIMIT = 600  # seconds; far beyond what anything here takes


class Client:
    """A paho client that remembers what it was told."""

    def __init__(self, options, clean=True):
        self.version = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[options.mqtt]
        self.options, self.clean = options, clean
        self.connects, self.disconnects, self.subacks, self.acks = [], [], [], []
        self.changed = threading.Condition()
        settings = {} if self.version == mqtt.MQTTv5 else {"clean_session": clean}
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=options.client_id, protocol=self.version, **settings
        )
        if options.user:
            self.mqtt.username_pw_set(options.user, options.password)
        if options.cafile:
            self.mqtt.tls_set(options.cafile, options.cert, options.key)
        self.mqtt.reconnect_delay_set(1, 1)
        self.mqtt.on_connect = lambda c, u, flags, reason, p: self.note(
            self.connects, {"reason": reason.value, "session_present": flags.session_present}
        )
        self.mqtt.on_disconnect = lambda c, u, flags, reason, p: self.note(self.disconnects, reason.value)
        self.mqtt.on_publish = lambda c, u, mid, reason, p: self.note(self.acks, reason.value)
        self.mqtt.on_subscribe = lambda c, u, mid, reasons, p: self.note(self.subacks, [r.value for r in reasons])

    def note(self, where, what):
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def wait(self, what, is_so):
        with self.changed:
            if not self.changed.wait_for(is_so, LIMIT):
                sys.exit(f"waited in vain: {what}")

    def connect(self):
        settings = {}
        if self.version == mqtt.MQTTv5:
            settings["clean_start"] = self.clean
            settings["properties"] = Properties(PacketTypes.CONNECT)
            settings["properties"].SessionExpiryInterval = 0 if self.clean else 3600
        self.mqtt.connect(self.options.host, self.options.port, **settings)
        self.mqtt.loop_start()
        self.wait("connected", lambda: self.connects)

    def publish(self, payload):
        return self.mqtt.publish(self.options.topic, payload, qos=self.options.qos)

    def finish(self, sent):
        for message in sent:
            message.wait_for_publish(LIMIT)
            if not message.is_published():
                sys.exit("a message was not acknowledged")
        self.mqtt.disconnect()
        self.wait("disconnected", lambda: self.disconnects)
        self.mqtt.loop_stop()


def messages(options):
    """Publishes some, and waits for their acknowledgements."""
    client = Client(options)
    client.connect()
    client.finish([client.publish(json.dumps({"n": n})) for n in range(options.messages)])
    return {"published": options.messages}


def subscribe(options):
    """Subscribes, then publishes on the same connection."""
    client = Client(options)
    client.connect()
    client.mqtt.subscribe([("#", 1), ("devices/+/commands", 0)])
    client.wait("SUBACK", lambda: client.subacks)
    client.finish([client.publish(json.dumps({"n": n})) for n in range(options.messages)])
    return {"subacks": client.subacks, "connects": len(client.connects)}


def large(options):
    """Publishes one packet that is too large, and waits for what comes of it."""
    client = Client(options)
    client.mqtt.reconnect_delay_set(LIMIT, LIMIT)
    client.connect()
    client.publish(b"x" * options.size)
    client.wait("disconnected", lambda: client.disconnects)
    return {"disconnects": client.disconnects[:1]}


def will(options):
    """Leaves a will, and then does nothing until it is killed."""
    client = Client(options)
    client.mqtt.will_set(options.topic, json.dumps({"died": True}), qos=options.qos)
    client.connect()
    print("connected", flush=True)
    sys.stdin.read()


def resend(options):
    """Publishes within a session that outlives the connection, which is cut meanwhile."""
    client = Client(options, clean=False)
    client.connect()
    sent = [client.publish(json.dumps({"n": n})) for n in range(options.messages)]
    client.wait("connected again", lambda: len(client.connects) > 1)
    client.finish(sent)
    return {"sessions": [connect["session_present"] for connect in client.connects]}


def refused(options):
    """Connects, and waits for the answer."""
    client = Client(options)
    client.mqtt.reconnect_delay_set(LIMIT, LIMIT)
    client.connect()
    return {"refused": client.connects[0]["reason"]}


def denied(options):
    """Publishes on a topic of its own, on somebody else's, and on its own again."""
    client = Client(options)
    client.mqtt.reconnect_delay_set(LIMIT, LIMIT)
    client.connect()
    own = options.topic
    for topic in [own, options.foreign_topic, own]:
        client.mqtt.publish(topic, json.dumps({"n": len(client.acks)}), qos=options.qos)
    client.wait("answers or the end", lambda: len(client.acks) == 3 or client.disconnects)
    return {"acks": client.acks, "disconnects": client.disconnects}


def stay(options):
    """Publishes each line of its input, and says when that is acknowledged, until it is disconnected."""
    client = Client(options)
    client.mqtt.reconnect_delay_set(LIMIT, LIMIT)
    client.connect()
    print("connected", flush=True)

    def publish():
        for line in sys.stdin:
            message = client.publish(line.strip())
            message.wait_for_publish(LIMIT)
            print("acknowledged", flush=True)

    threading.Thread(target=publish, daemon=True).start()
    client.wait("the end", lambda: client.disconnects)
    return {"disconnects": client.disconnects[:1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    actions = {action.__name__: action for action in [messages, subscribe, large, will, resend, refused, denied, stay]}
    parser.add_argument("action", choices=actions)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mqtt", choices=["3.1.1", "5"], required=True)
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--qos", type=int, default=1)
    parser.add_argument("--messages", type=int, default=3)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--cafile")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--foreign-topic")
    options = parser.parse_args()
    print(json.dumps(actions[options.action](options)))


if __name__ == "__main__":
    main()
