import { showDocument } from "./load.js";

const FONT = "system-ui, sans-serif";

showDocument((spec, element) => {
  window.Redoc.init(
    spec,
    {
      sanitize: true,
      hideDownloadButtons: false,
      sortRequiredPropsFirst: true,
      theme: { typography: { fontFamily: FONT, headings: { fontFamily: FONT } } },
    },
    element,
  );
});
