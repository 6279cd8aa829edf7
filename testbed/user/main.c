// SPDX-License-Identifier: GPL-2.0-only
#include "program.h"

int main(int argc, char **argv)
{
	return run_program(argc, argv, NULL);
}
