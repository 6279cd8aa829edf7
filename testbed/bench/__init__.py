# SPDX-License-Identifier: MIT
"""`nfcbed bench`: what a packet costs on one core, and what a chain holds in memory.

``rig``       the network with its generator and its counter: sends and times
``socketsender``  another sender, for frames longer than a page
``variant``   a way through the node, and how it is switched on
``variants``  those that are compared by the command
``rulesets``  those with many rules
``rounds``    all of them again and again, in random order
``noise``     what else the machine did meanwhile
``stats``     pure: medians, ratios, slopes and their intervals
``aims``      pure: the ratios that are asked for, and what came of them
``record``    pure: the file ``bench.json``
``memory``    bytes that a chain's maps and programs hold
"""
