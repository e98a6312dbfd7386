/*
 * What the bindings are generated from: DPDK's headers, and the few things that
 * Rust cannot say itself. Every static inline function, DPDK's and ours, gets an
 * exported twin in generated C.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <rte_cpuflags.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_power_intrinsics.h>

/* rte_errno is a thread-local variable, which bindgen cannot bind. */
static inline int penstock_errno(void)
{
	return rte_errno;
}

/* "EINVAL" for 22, or NULL where libc has no name. */
static inline const char *penstock_errno_name(int code)
{
	return strerrorname_np(code);
}

/* EAL's default stream is stdout and syslog. */
static inline int penstock_log_to_stderr(void)
{
	return rte_openlog_stream(stderr);
}

/* SIGRTMIN and SIGRTMAX are function calls: libc keeps some signals to itself. */
static inline int penstock_block_rt_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		sigaddset(&set, sig);
	return pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* Macros with casts in them, as constants. */
static const uint64_t PENSTOCK_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t PENSTOCK_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t PENSTOCK_RSS_IP_UDP = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP;
static const uint64_t PENSTOCK_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t PENSTOCK_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t PENSTOCK_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t PENSTOCK_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t PENSTOCK_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t PENSTOCK_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
