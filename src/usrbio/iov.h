/*
 * iov.h - memory for I/O. Arguments were checked by the caller (abi.c). 0 or a negative errno.
 */
#ifndef CISTERN_USRBIO_IOV_H
#define CISTERN_USRBIO_IOV_H

#include "hf3fs_usrbio.h"

__attribute__((warn_unused_result)) int iov_create(struct hf3fs_iov *iov, const char *mp,
                                                   size_t size, size_t block_size, int numa);
__attribute__((warn_unused_result)) int iov_open(struct hf3fs_iov *iov, const uint8_t id[16],
                                                 const char *mp, size_t size, size_t block_size,
                                                 int numa);
void iov_fill(struct hf3fs_iov *iov, void *base, const uint8_t id[16], const char *mp, size_t size,
              size_t block_size, int numa);
int iov_unit(const struct hf3fs_iov *iov, const uint8_t *ptr,
             uint64_t len);                         /* of fixed buffers, or -1 */
bool iov_is_one_block(const struct hf3fs_iov *iov); /* wrapped, and linked without a block size */
void iov_unlink(struct hf3fs_iov *iov);             /* iov->iovh is set */
void iov_destroy(struct hf3fs_iov *iov);            /* likewise */

#endif
