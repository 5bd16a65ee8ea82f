# SPDX-License-Identifier: Apache-2.0
"""A client of no cluster, for tests of who started it: it does what its address says."""

import json
import signal
import sys

BOX = {"id": "aa", "host": "here", "cpus": 1.0}


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


how = sys.argv[1]
if how == "refuses":
    say(event="refused", message="ConnectionError: nobody listens")
elif how == "broken":
    say(event="broken", message="KeyError: 'libamd_smi.so'")
elif how == "breaks":
    sys.stderr.write("Traceback\nSegmentation fault\n")
    sys.exit(1)
elif how == "mute":
    signal.pause()
else:
    say(event="boxes", boxes=[BOX])
    if how == "hangs":
        signal.pause()
    for text in sys.stdin:
        asked = json.loads(text)
        if how == "dies":
            sys.stderr.write("the head has gone\n")
            sys.exit(3)
        say(event="said", name=asked["name"], line=asked["question"])
        say(event="lost", name="another", why="NodeDiedError: gone")
        say(event="alive")
        say(event="over", name=asked["name"])
