"""What a program written against docker-py does in a day. The daemon is at DOCKER_HOST."""

import io
import tarfile
import threading
import time

import docker

client = docker.from_env(version="auto")
assert client.ping() is True
version = client.version()
assert version["MinAPIVersion"] == "1.24", version
assert client.info()["OSType"] == "linux"

# One that ends: its output, its exit code, its errors.
out = client.containers.run("demo", ["echo", "hello"], remove=True, network_mode="none")
assert out == b"hello\n", out
try:
    client.containers.run("demo", ["sh", "-c", "exit 3"], remove=True, network_mode="none")
    raise AssertionError("it failed and nobody said so")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3, error
try:
    client.containers.get("nobody")
    raise AssertionError("there is no such container")
except docker.errors.NotFound as error:
    assert "No such container: nobody" in error.explanation, error
try:
    client.containers.create("no/such/image", "true")
    raise AssertionError("there is no such image")
except docker.errors.ImageNotFound:
    pass

# Events are heard while it happens.
heard = []
events = client.events(decode=True, filters={"type": "container"})


def listen():
    for event in events:
        heard.append(event["Action"])
        if event["Action"] == "destroy":
            return


listener = threading.Thread(target=listen, daemon=True)
listener.start()
time.sleep(0.2)

# One that stays.
box = client.containers.run(
    "demo",
    ["sh", "-c", "echo first; sleep 1000"],
    name="box",
    detach=True,
    environment={"A": "b"},
    labels={"tier": "front"},
    hostname="inside",
    working_dir="/tmp",
    mem_limit="64m",
    network_mode="none",
)
assert box.status in ("created", "running"), box.status
box.reload()
assert box.status == "running" and box.labels == {"tier": "front"}, box.attrs
assert box.attrs["Config"]["Hostname"] == "inside"
assert box.attrs["HostConfig"]["Memory"] == 64 << 20
assert [c.name for c in client.containers.list(filters={"label": "tier=front"})] == ["box"]
assert client.containers.list(filters={"label": "tier=back"}) == []

code, output = box.exec_run(["sh", "-c", "echo $A; pwd"])
assert (code, output) == (0, b"b\n/tmp\n"), (code, output)
code, (stdout, stderr) = box.exec_run(["cat", "/missing"], demux=True)
assert code == 1 and stdout is None and b"/missing" in stderr, (code, stdout, stderr)
code, stream = box.exec_run(["echo", "streamed"], stream=True)
assert b"".join(stream) == b"streamed\n"

deadline = time.time() + 20
while box.logs() != b"first\n":
    assert time.time() < deadline, box.logs()
    time.sleep(0.05)
stamp, line = box.logs(timestamps=True).split(b" ", 1)
assert stamp.endswith(b"Z") and line == b"first\n"
assert next(iter(box.logs(stream=True, follow=True))) == b"first\n"

# Files in and out.
archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    entry = tarfile.TarInfo("file")
    entry.size = 7
    tar.addfile(entry, io.BytesIO(b"content"))
assert box.put_archive("/tmp", archive.getvalue()) is True
parts, stat = box.get_archive("/tmp/file")
assert stat["name"] == "file" and stat["size"] == 7, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
    assert tar.extractfile("file").read() == b"content"

stats = box.stats(stream=False)
assert stats["memory_stats"]["limit"] == 64 << 20, stats
box.pause()
box.reload()
assert box.status == "paused"
box.unpause()
box.rename("case")
box.reload()
assert box.name == "case"
box.update(mem_limit="32m", memswap_limit="32m")
box.reload()
assert box.attrs["HostConfig"]["Memory"] == 32 << 20
assert any("sleep" in word for row in box.top()["Processes"] for word in row)
box.stop(timeout=0)
assert box.wait()["StatusCode"] == 137
image = box.commit(repository="made", tag="1")
assert "made:1" in image.tags, image.tags
box.remove()
listener.join(20)
for word in ("create", "start", "pause", "unpause", "rename", "die", "destroy"):
    assert word in heard, (word, heard)
assert heard.index("create") < heard.index("start") < heard.index("destroy")

# Images.
assert client.images.get("made:1").id == image.id
saved = b"".join(image.save())
client.images.remove("made:1")
assert client.images.load(saved)[0].id == image.id
client.images.remove(image.id, force=True)

# Volumes.
volume = client.volumes.create("kept", labels={"a": "b"})
assert client.volumes.get("kept").attrs["Labels"] == {"a": "b"}
mounted = {"kept": {"bind": "/kept", "mode": "rw"}}
run = dict(remove=True, network_mode="none", volumes=mounted)
client.containers.run("demo", ["sh", "-c", "echo x > /kept/file"], **run)
assert client.containers.run("demo", ["cat", "/kept/file"], **run) == b"x\n"
volume.remove()
assert client.volumes.list() == []
print("all of it worked")
