from foldstack.cli import main

raise SystemExit(main())
