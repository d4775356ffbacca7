"""A real scheduler and real workers, as processes that a test can kill."""

import json
import os
import signal
import subprocess
import sys
import time

from bvverify.process import kill_group


class Cluster:
    """``with Cluster(folder, workers) as cluster``: ``cluster.address``; workers are started anew by whoever wants them."""

    def __init__(self, folder, workers):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        self.workers = []
        self._start("dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", self.file)
        self._wait()
        for _ in range(workers):
            self.add()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            kill_group(process)
            process.wait()

    @property
    def address(self):
        return json.loads(self.file.read_text())["address"]

    def add(self):
        """One more worker of one thread, without a nanny: what is killed stays dead."""
        made = self._start("dask_worker", "--scheduler-file", self.file, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        self.workers.append(made)
        return made

    def kill(self, number):
        """Kill a worker outright."""
        os.kill(self.workers.pop(number).pid, signal.SIGKILL)

    def _start(self, module, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.{module}", *map(str, arguments)]
        with (self.folder / f"log{len(self.processes)}.txt").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        self.processes.append(process)
        return process

    def _wait(self):
        until = time.monotonic() + 30
        while not self.file.exists() or not self.file.read_text():
            assert time.monotonic() < until, "the scheduler did not come"
            time.sleep(0.05)
