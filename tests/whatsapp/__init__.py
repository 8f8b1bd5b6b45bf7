"""A double of WhatsApp's server, for the real client: the unmodified wheel of neonize 0.5.2.

What Siaran sends over real WhatsApp is sent by neonize, a shared library written in Go. Tests of
that need somebody at the other end who speaks the protocol: who takes a client in, keeps its keys,
passes its messages on, and goes wrong on demand. That is here, on this host only. It proves our
code against the client, not against WhatsApp's policies and limits.

    a test ── double.py ────► verbs.py ┐
      │                                server.py, one process
      └ client.py ► client_process.py ─┘
          the real client, a process each

How a client gets here instead of to WhatsApp, with nothing in it changed on disk:

- Its addresses are constants, but Go heeds HTTPS_PROXY: proxy.py takes WhatsApp's two hosts, and
  refuses every other (and a test that asked for one fails).
- TLS: Go heeds SSL_CERT_FILE; certificates.py makes an authority for each double.
- The protocol within (noise.py) has a certificate of its own, whose root key is a constant in the
  library. memory.py puts the double's key over it, in the memory of the client's process;
  site/sitecustomize.py has that done as soon as neonize is imported.

So any process that is started with `Double.environment` talks to the double, our own commands too.
Go reads the environment that a process begins with: setting os.environ later does nothing.

What happens then, from the wire upwards:

- noise.py      the encrypted channel: frames over a WebSocket
- binary.py     what is in a frame: nodes, as binary XML; its words are read out of the library
                (tokens.py), because they are WhatsApp's and change with each version
- connection.py one client's connection: to be linked, or logging in; then stanza by stanza
- linking.py    linking by QR code and by eight characters; pairing.py has the cryptography
- queries.py    what a client asks: keys, who is on WhatsApp, where files go
- messages.py   messages and receipts between devices
- accounts.py   accounts: a phone and its clients; world.py: all of them, and the troubles
- phone.py      a person's phone: a device like any other, which decrypts (ratchet.py) and so knows
                what its owner got to read, and how often it came, and which can write too;
                files come through media.py

paired.py has hundreds of linked accounts, also for `python -m benchmarks whatsapp`.

Where facts come from: each module says it. Most were measured on the wheel, by trying until it was
content; the code of whatsmeow, which the wheel is built from, says the same where it is named.
Signal's and Noise's specifications are public. No third party's code or text is copied here.

The trick with the root key depends on the version: memory.py refuses to go on unless the key is in
the library exactly once, tokens.py unless it finds all tables. After an upgrade of neonize, run

    scripts/prepare whatsapp-double && .venv/bin/python -m pytest tests/whatsapp

test_double.py and test_troubles.py say in sentences what then has to be so.

Which test proves what, with a real `runbroadcaster`: that nobody gets a message twice, that each is
in one state that the pages show, and what they say of the device.

    from pairing in the browser to a reply of STOP       test_chain.py
    pairing: two at once, cancelled, another number ...  test_pairing.py
    acks withheld, and the broadcaster killed            test_broadcaster.py
    the same, one process of several, paired anew        test_broadcaster.py
    connection cut in mid-send, before and after         test_mishaps.py
    unlinked on the phone; banned for a while, for good  test_mishaps.py
    library outdated (405)                               test_mishaps.py
    nobody new (463)                                     test_mishaps.py, test_broadcaster.py
    50 devices of one process killed, and started again  test_crowd.py
    opened elsewhere too                                 test_transport.py
    pictures, who is on WhatsApp                         test_broadcaster.py, test_media.py
    what docs/transports.md promises of a transport      test_contract.py

Whom a message came to, the double's phones count. A client that is cut off sends it again under the
same id, and an app shows that once: so `Received.copies` may be 2 there, and there only.
"""
