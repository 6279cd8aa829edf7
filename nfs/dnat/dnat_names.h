/* SPDX-License-Identifier: GPL-2.0-only */
/* Why DNAT drops and what it counts, in the order of nf.yaml. */
#ifndef NF_DNAT_NAMES_H
#define NF_DNAT_NAMES_H

enum dnat_reason { DNAT_NO_STATE, DNAT_CLASH, DNAT_FRAGMENT, DNAT_MALFORMED };
enum dnat_counter { DNAT_CREATED, DNAT_UNTRANSLATED, DNAT_REPLIES, DNAT_ERRORS };

#endif
