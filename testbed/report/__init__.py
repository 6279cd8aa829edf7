# SPDX-License-Identifier: MIT
"""The report: stored results beside what the thesis published, as one page. Needs no root.

``found``     which results there are below a folder, and which of each experiment is shown
``items``     what the thesis published, how each of its values is judged, how its set-up differs
``methods``   how an experiment measures, in its own module's words
``verdicts``  pure: a value beside the published one, and what may be said of it
``tables``    pure: a result as tables
``values``    pure: all that stands in the report
``figures``   the figures of results as SVG, for the page and beside ``report.md``
``render``    the report's values as HTML and as Markdown
``bench``     what a packet costs, from ``bench.json``
"""
