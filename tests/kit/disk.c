/* A disk that is dying, as the server sees it: what its reads and writes of a
 * part of a file do is said by a file that the test writes.
 *
 * Loaded into every process of the server by LD_PRELOAD. The file $DISK_PLAN has
 * lines "<end of the path> <first byte> <last byte + 1> <what>":
 *
 *   stick    a read does not come back while the line is there, whatever
 *            signals come: a process in uninterruptible sleep, but that SIGKILL
 *            and SIGQUIT end it
 *   slow     a read takes 5 ms longer
 *   eio      a read fails: Input/output error
 *   full     a write fails: No space left on device
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static int ends_with(const char *path, const char *end)
{
	size_t p = strlen(path), e = strlen(end);

	return p >= e && strcmp(path + p - e, end) == 0;
}

/* What the plan says of this part of this file; empty if nothing. */
static void planned(int fd, off_t from, off_t length, char *what)
{
	char		link[64], path[1024], plan[4096];
	const char *name = getenv("DISK_PLAN");
	int			file;
	ssize_t		n;

	what[0] = 0;
	if (name == NULL || (file = open(name, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	n = read(file, plan, sizeof(plan) - 1);
	close(file);
	plan[n > 0 ? n : 0] = 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = 0;
	for (char *line = strtok(plan, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		char		end[512], word[16];
		long long	first, last;

		if (sscanf(line, "%511s %lld %lld %15s", end, &first, &last, word) == 4 &&
			ends_with(path, end) && from < last && from + length > first)
		{
			strcpy(what, word);
			return;
		}
	}
}

static int before_read(int fd, off_t from, off_t length)
{
	char		what[16];

	planned(fd, from, length, what);
	if (strcmp(what, "slow") == 0)
		pause_ms(5);
	while (strcmp(what, "stick") == 0)
	{
		pause_ms(20);
		planned(fd, from, length, what);
	}
	errno = EIO;
	return strcmp(what, "eio") == 0 ? -1 : 0;
}

static int before_write(int fd, off_t from, off_t length)
{
	char		what[16];

	planned(fd, from, length, what);
	errno = ENOSPC;
	return strcmp(what, "full") == 0 ? -1 : 0;
}

static off_t total(const struct iovec *v, int count)
{
	off_t		sum = 0;

	for (int i = 0; i < count; i++)
		sum += v[i].iov_len;
	return sum;
}

#define NEXT(name) \
	static __typeof__(name) *next = NULL; \
	if (next == NULL) \
		next = (__typeof__(name) *) dlsym(RTLD_NEXT, #name)

ssize_t pread(int fd, void *to, size_t length, off_t from)
{
	NEXT(pread);
	return before_read(fd, from, length) < 0 ? -1 : next(fd, to, length, from);
}

ssize_t preadv(int fd, const struct iovec *v, int count, off_t from)
{
	NEXT(preadv);
	return before_read(fd, from, total(v, count)) < 0 ? -1 : next(fd, v, count, from);
}

ssize_t pwrite(int fd, const void *what, size_t length, off_t from)
{
	NEXT(pwrite);
	return before_write(fd, from, length) < 0 ? -1 : next(fd, what, length, from);
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t from)
{
	NEXT(pwritev);
	return before_write(fd, from, total(v, count)) < 0 ? -1 : next(fd, v, count, from);
}
