"""Other shapes of requests and answers, around any handler: chosen by `service_envelope`."""
