# SPDX-License-Identifier: MIT
"""Results that were stored: found, shown, compared, and repeated from their own folders.

``listing``      which results lie below a folder, and what each came to in a line
``caution``      what has to be known before a result is used: host-limited, incomplete, quick …
``surroundings`` environment.json: read, summed up, and two of them compared
``sheet``        all that a person needs of one result
``comparison``   pure: two results of an experiment, side by side
``side_by_side`` a comparison as text
``repeating``    what a folder says of how its run can be repeated

Nothing here needs root. What is read may come from elsewhere: it is data, and never carried out.
"""
