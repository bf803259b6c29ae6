"""Runs the image `punctual` as docs/operations/deployment/compose.yaml and docs/operations/deployment.md say.

tests/container.sh starts it in a network of its own, beside PostgreSQL at its usual port. The services of compose.yaml run
with the environment, command, ports and grace period of that file. Every container is read-only but for its volume, and has
no capabilities. Not covered: `--scale`, because the containers share one network, and the image of PostgreSQL.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/operations/deployment"
DEPLOYMENT = FOLDER.with_suffix(".md").read_text()
# Values of the variables that have no default.
GIVEN = {"POSTGRES_PASSWORD": "any", "CONFIG_SERVICE_API_KEY": "0123456789abcdef", "BATCH_API_KEY": "fedcba9876543210"}
# A program that listens on 127.0.0.1 alone does not answer here.
ADDRESS = "127.0.0.2"
JOB = "instagram_post_preference_based"
# What prints the settings that a program knows.
SETTINGS = {"punctual-agent": ["reference", "settings"], "punctual-config-service": ["--help"]}


def output(*command):
    return subprocess.check_output(command, text=True).strip()


CONFIG = json.loads(output("buildah", "inspect", "--type=image", "punctual"))["OCIv1"]["config"]
USER = CONFIG["User"].split(":")[0]
(VAR,) = CONFIG["Volumes"]
# From the Dockerfile: images in the format that buildah writes have none.
HEALTH = json.loads(re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", (FOLDER / "Dockerfile").read_text(), re.M)[1])


class Container:
    """A container of the image; its program runs for as long as the `with` block."""

    def __init__(self, environment, ports, command=None, grace=10, health=HEALTH):
        self.environment, self.ports, self.grace, self.health = environment, ports, grace, health
        self.command = command or CONFIG["Cmd"]
        hosts = ["--add-host=postgres:127.0.0.1", f"--add-host=config:{ADDRESS}"]
        self.id = output("buildah", "from", "--pull-never", "--cap-drop=all", *hosts, "localhost/punctual")
        root = output("buildah", "mount", self.id)
        self.execute("punctual-agent", "--version")  # Buildah makes its mount points.
        output("mount", "--bind", root, root)
        output("mount", "-o", "remount,bind,ro", root)
        output("mount", "-t", "tmpfs", "run", f"{root}/run")  # Buildah writes a file here at each start.

    def run(self, *command, **options):
        variables = [f"--env={name}={value}" for name, value in self.environment.items()]
        arguments = ["buildah", "run", *variables, self.id, "--", *command]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, **options)

    def execute(self, *command):
        """Runs another command, such as `docker exec` does; returns its exit code and output."""
        process = self.run(*command, stderr=subprocess.STDOUT)
        said, _ = process.communicate()
        return process.returncode, said

    def __enter__(self):
        code, said = self.execute(*self.health)
        assert code == 1 and "does not answer" in said, f"{self.health} ends with {code} before {self.command} runs: {said}"
        self.process = self.run(*self.command)
        until(f"{self.command} runs", self.has_begun)
        return self

    def has_begun(self):
        """Whether the program runs, as what process: the namespace of tests/container.sh has no other of this program yet."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.path.basename(os.readlink(process / "exe")) == self.command[0]:
                    self.pid = int(process.name)
                    return True
        assert self.process.poll() is None, f"{self.command} ends with {self.process.returncode} at once"
        return False

    def __exit__(self, failed, *_):
        if failed:
            return  # The program ends with the script.
        os.kill(self.pid, signal.SIGTERM)
        self.process.communicate(timeout=self.grace)
        assert self.process.returncode == 0, f"{self.command} ends with {self.process.returncode} on SIGTERM"

    def check(self):
        """Every port and the health check answer, and the program has neither root's id nor capabilities."""
        for port in self.ports:
            until(f"{self.command} answers at port {port}", lambda: request(port, "/health/ready")[0] == 200)
        code, said = self.execute(*self.health)
        assert code == 0, f"{self.health} ends with {code} while {self.command} runs: {said}"
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        assert re.search(rf"^Uid:(\s+{USER}){{4}}$", status, re.M) and USER != "0", status
        assert re.search(r"^CapEff:\s+0+$", status, re.M), status


def request(port, path, method="GET", key="", body=None):
    """The status and the text of an answer; 0 if there is none."""
    asked = urllib.request.Request(f"http://{ADDRESS}:{port}{path}", method=method, headers={"Authorization": f"Bearer {key}"})
    asked.data = json.dumps(body).encode() if body else None
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(what, holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.05)


def check_run(config_port, agent):
    """A preference stored in the Config Database is in the tenant's result."""
    choice = {"instagram_posts": {"enabled": True, "frequency": "daily", "template_overrides": {"brand": "Harbour Books"}}}
    path = "/api/v1/tenants/ann/configs/feature_preferences"
    status, text = request(config_port, path, "PUT", GIVEN["CONFIG_SERVICE_API_KEY"], {"config_value": choice})
    assert status == 200, text
    trigger = ["punctual-agent", "trigger", JOB, "--tenant", "ann"]
    until("the agent knows the tenant", lambda: agent.execute(*trigger)[0] == 0)
    until("the tenant has a result", lambda: has_result(agent))


def has_result(agent):
    code, said = agent.execute("punctual-agent", "results", "--tenant", "ann", "--json")
    assert code == 0, said
    return "Harbour Books" in said and '"succeeded"' in said


def service(name, written):
    """The container of a service of compose.yaml."""
    build = FOLDER / written["build"]["context"]
    assert build.samefile(ROOT), f"{name}: {build}"
    assert (build / written["build"]["dockerfile"]).samefile(FOLDER / "Dockerfile"), name
    stops_within = int(re.search(r"still runs after (\d+) s", DEPLOYMENT)[1])
    grace = int(written.get("stop_grace_period", "10s").removesuffix("s"))
    assert grace > stops_within, f"{name}: a stop_grace_period of {grace} s is too short, for a stop takes up to {stops_within} s"
    ports = [int(port.split(":")[-1]) for port in written.get("ports", []) + written.get("expose", [])]
    assert ports, name
    shell, *health = written["healthcheck"]["test"] if "healthcheck" in written else ["CMD", *HEALTH]
    assert shell == "CMD", f"{name}: the image has no shell for a health check"
    container = Container(written["environment"], ports, written.get("command"), grace, health)
    program = container.command[0]
    _, known = container.execute(program, *SETTINGS[program])
    for variable in written["environment"]:
        assert re.search(rf"\b{variable}\b", known), f"{name}: {program} has no setting {variable}"
    return container


def compose():
    text = (FOLDER / "compose.yaml").read_text()
    services = yaml.safe_load(re.sub(r"\$\{(\w+)[^}]*\}", lambda variable: GIVEN[variable[1]], text))["services"]
    database = services.pop("postgres")["environment"]["POSTGRES_USER"]
    output("psql", os.environ["TEST_POSTGRES_URL"], "-c", f"create database {database}")
    with service("config", services.pop("config")) as config, service("agent", services.pop("agent")) as agent:
        config.check()
        agent.check()
        check_run(config.ports[0], agent)
    assert not services, services


def docker_run():
    """The container of `docker run` in deployment.md needs each variable, and keeps its data through a restart."""
    (written,) = re.findall(r"^docker run (?:.*\\\n)*.*", DEPLOYMENT, re.M)
    ports = [int(port) for port in re.findall(r"-p \d+:(\d+)", written)]
    assert [f"{port}/tcp" for port in sorted(ports)] == sorted(CONFIG["ExposedPorts"]), written
    assert re.search(r"-v \w+:(\S+)", written)[1] == VAR, written
    names = re.findall(r"-e (\w+)", written)
    agent = Container({}, ports)
    for missing in names:
        agent.environment = {name: GIVEN[name] for name in names if name != missing}
        code, said = agent.execute(*agent.command)
        assert code != 0 and missing in said, f"without {missing}: {code}, {said}"
    agent.environment = {name: GIVEN[name] for name in names}
    with agent:
        agent.check()
        check_run(8000, agent)
    with agent:
        agent.check()
        assert has_result(agent), "the result is gone after a restart"


compose()
docker_run()
