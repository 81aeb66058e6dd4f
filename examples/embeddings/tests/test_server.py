"""The HTTP side with a made-up route: what it takes, what it refuses, how it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import unittest
from pathlib import Path

from server import MAX_BODY, BadRequest, ModelServer

HERE = Path(__file__).resolve().parent


def double(request):
    value = request.json().get("value")
    if not isinstance(value, int):
        raise BadRequest('"value" has to be a whole number')
    return {"value": 1 // value and value * 2}


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = ModelServer(("127.0.0.1", 0), {"/predict": double})
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(*self.server.server_address, timeout=5)
        self.addCleanup(connection.close)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None

    def test_health(self):
        self.assertEqual(self.ask("GET", "/healthz"), (200, {"status": "ok"}))
        self.assertEqual(self.ask("HEAD", "/healthz"), (200, None))

    def test_answers(self):
        self.assertEqual(self.ask("POST", "/predict", '{"value": 1}'), (200, {"value": 2}))

    def test_bad_bodies_are_400(self):
        for body in ("", "{", "[1]", "NaN", '{"value": NaN}', '{"value": "1"}', b"\xff\xfe", "[" * 100_000):
            with self.subTest(body=body[:20]):
                status, answer = self.ask("POST", "/predict", body)
                self.assertEqual(status, 400)
                self.assertIn("error", answer)

    def test_half_a_character_is_400(self):
        self.assertEqual(self.ask("POST", "/predict", '{"value": 1, "name": "\\ud83d\\ude00"}')[0], 200)
        self.assertEqual(self.ask("POST", "/predict", '{"value": 1, "name": "\\ud83d"}')[0], 400)

    def test_other_paths_and_methods(self):
        self.assertEqual(self.ask("GET", "/nothing")[0], 404)
        self.assertEqual(self.ask("POST", "/nothing", "{}")[0], 404)
        self.assertEqual(self.ask("GET", "/predict")[0], 405)
        self.assertEqual(self.ask("DELETE", "/predict")[0], 501)

    def test_a_body_that_is_too_large_is_refused_unread(self):
        self.assertEqual(self.ask("POST", "/predict", "{}", {"Content-Length": str(MAX_BODY + 1)})[0], 413)
        self.assertEqual(self.ask("POST", "/predict", "{}", {"Content-Length": "9" * 5000})[0], 413)

    def test_a_body_without_length_is_refused(self):
        self.assertEqual(self.ask("POST", "/predict", None, {"Content-Length": "x"})[0], 411)
        # Headers alone: the server closes without reading, and a body still on its way would break.
        self.assertEqual(self.ask("POST", "/predict", None, {"Transfer-Encoding": "chunked"})[0], 411)

    def test_a_failing_model_is_500_and_the_server_lives(self):
        with Path(os.devnull).open("w") as nowhere:
            stderr, sys.stderr = sys.stderr, nowhere
            try:
                self.assertEqual(self.ask("POST", "/predict", '{"value": 0}')[0], 500)
            finally:
                sys.stderr = stderr
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)

    def test_two_requests_on_one_connection(self):
        connection = http.client.HTTPConnection(*self.server.server_address, timeout=5)
        self.addCleanup(connection.close)
        for value in (1, -1):
            connection.request("POST", "/predict", json.dumps({"value": value}))
            self.assertEqual(json.loads(connection.getresponse().read())["value"], value * 2)


class EndTest(unittest.TestCase):
    def test_sigterm_ends_it_quickly(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = "import server; server.serve({'/predict': lambda request: {}})"
        environment = {**os.environ, "PORT": str(port)}
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=HERE.parent,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        self.assertIn(str(port), process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=3), 0)


if __name__ == "__main__":
    unittest.main()
