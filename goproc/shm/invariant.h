/* invariant.h - invariants that a build with GOPROC_DEBUG=1 checks as it runs. Any other build leaves the
 * checks out. */
#ifndef GP_INVARIANT_H
#define GP_INVARIANT_H

#ifdef GP_DEBUG
_Noreturn void gp_assert_failed(const char *what, const char *file, int line);
#define GP_ASSERT(condition) ((condition) ? (void)0 : gp_assert_failed(#condition, __FILE__, __LINE__))
#else
#define GP_ASSERT(condition) ((void)sizeof(condition)) /* it compiles, and costs nothing */
#endif

#endif
