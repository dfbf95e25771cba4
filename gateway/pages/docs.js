// Shows /openapi.json with Swagger UI; a file of its own, since the page allows no inline script.
window.SwaggerUIBundle({
  url: `${document.body.dataset.root}/openapi.json`,
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null,
});
