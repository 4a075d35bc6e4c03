# The live page in headless Chromium; dashboard, alerts and scrape configuration against the table of metrics.
.PHONY: test-live-page test-dashboard
test-live-page: $(CLI) $(USRBIO_SO) | setup-test
	CISTERN=$(abspath $(CLI)) $(PYTEST) tests/e2e/test_live_page.py
test-dashboard: | setup-test
	$(PYTEST) tests/e2e/test_dashboard.py
TEST_TARGETS += test-live-page test-dashboard
