"""Publishes to Nchan over HTTP, as its clients do. In bench/: `python -m peers.nchan_publisher PORT`."""

from __future__ import annotations

import http.client
import sys
import time

from peers.price import message, orders

link, number = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1])), 0
for rate, count in orders():
    began = time.monotonic()
    for due in range(count):
        time.sleep(max(0.0, began + due / rate - time.monotonic()))
        number += 1
        link.request("POST", "/publish", message(number))
        link.getresponse().read()
