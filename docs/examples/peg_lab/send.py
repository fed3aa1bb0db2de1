"""What the person does, to the input device `udp`: python send.py [PORT [GRAB X Y Z RX RY RZ]]; until Ctrl-C."""

import socket
import sys
import time

port = int(sys.argv[1]) if len(sys.argv) > 1 else 5005
datagram = " ".join(sys.argv[2:] or ["0"] * 7)  # holds still, and takes no control
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    while True:
        sender.sendto(datagram.encode(), ("127.0.0.1", port))
        time.sleep(0.05)
