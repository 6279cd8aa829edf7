# SPDX-License-Identifier: MIT
"""`nfcbed bench`: what a packet costs, what a chain holds in memory, and what is aimed at.

``parts``     all parts, one after the other: what ``nfcbed bench`` alone does
``targets``   pure: an aim and what came of it
``table``     pure: the file ``bench.json`` and its tables

Cost of a packet on one core (``nfcbed bench chain``):

``rig``       the network with its generator and its counter: sends and times
``socketsender``  another sender, for frames longer than a page
``variant``   a way through the node, and how it is switched on
``variants``  those that are compared by the command
``rulesets``  those with many rules
``rounds``    all of them again and again, in random order
``noise``     what else the machine did meanwhile
``stats``     pure: medians, ratios, slopes and their intervals
``aims``      pure: the ratios that are asked for, and what came of them
``cost``      all of that as one part
``record``    pure: the file ``chain.json``; ``report`` shows it

The other parts:

``memory``       bytes that a chain's maps and programs hold
``flood``        a good flow's goodput under a flood; ``floodrecord`` is its file
``evaluation``   what experiments of the evaluation found
``environment``  the machine
"""
